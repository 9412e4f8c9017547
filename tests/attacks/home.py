"""A frame in a home, and somebody who owns everything between it and the offline keys.

The agent's own core, trust, installer, stores on disk and connection, over a real broker. Only what would play a film
is a stand-in: it counts how often a release was tried, which is what every attack wants and none may get.
"""

import threading
from functools import partial
from pathlib import Path

from device_agent.core import FrameCore
from device_agent.ports import FrameIdentity, Ports
from device_agent.storage.journal import FileDocuments, FileJournal
from device_agent.storage.outbox import FileOutbox
from device_agent.storage.store import FileStore
from device_agent.telemetry import health
from device_agent.transport import MqttDriver, TlsFiles
from device_agent.trust.epoch import FileEpoch
from device_agent.trust.image import ImageTrust
from device_agent.trust.time import utc_now
from protocol.errors import Reason
from protocol.exchange import Command
from protocol.messages import HealthEvent, ReportedState
from protocol.sequences import RetryPolicy
from tests.device_agent.frame import NO_PROBATION, FakeTrial
from tests.device_agent.live import FRAME, Backend, until
from tests.device_agent.repository import Published, Repository, desired
from tests.services import BrokerHandle

QUICK = RetryPolicy(tries=2, wrong_bytes_tries=2, timeout_s=0.4, first_backoff_s=0.05, max_backoff_s=0.1)
SAFE = b"the model that plays " * 9_000
"""Three chunks and an index."""
EVIL = b"the model that nobody signed " * 7_000


class Home:
    """``attacker`` publishes whatever it likes; what frames send it acknowledges like a backend, or it does not."""

    def __init__(self, folder: Path, broker: BrokerHandle) -> None:
        self.repository = Repository()
        self.base = self.repository.base(SAFE)
        self.good = self.repository.release("portrait", "1.0", [self.base])
        self.attacker = Backend(broker)
        self._folder = folder
        self._broker = broker
        self._version = 0
        self._published: dict[str, bytes] = {}
        self.trial = FakeTrial()
        self.outbox = FileOutbox(folder / "outbox", 10_000_000, 10_000)
        documents = FileDocuments(folder / "trust")
        for name, document in self.repository.anchors().items():
            documents.save(name, document)
        self.store = FileStore(folder, headroom=0)
        ports = Ports(
            journal=FileJournal(folder / "journal.json"),
            documents=documents,
            store=self.store,
            outbox=self.outbox,
            trial=self.trial,
            trust=partial(ImageTrust, now=utc_now),
            epoch=FileEpoch(folder / "epoch"),
        )
        self.core = FrameCore(FrameIdentity(FRAME, "rk3588", "zh", "0.1.0"), ports, QUICK, NO_PROBATION)
        issued = broker.client(FRAME)
        self.driver = MqttDriver(self.core, broker.url, TlsFiles(broker.ca, issued.cert, issued.key))
        self._thread = threading.Thread(target=self.driver.run, name="frame")
        self._noted = 0

    def begin(self) -> None:
        """The frame runs the good release."""
        self._thread.start()
        until(lambda: self.core.online)
        self.offer(self.repository, self.good)
        self.settled("committed")

    def close(self) -> None:
        self.driver.stop()
        self._thread.join(15)
        self.attacker.close()
        self.outbox.close()

    # --- what the attacker does ---------------------------------------------------------------------------------------

    def put(self, by: Repository) -> None:
        """The broker holds exactly this."""
        gone = dict.fromkeys(self._published.keys() - by.retained.keys(), b"")
        fresh = {topic: data for topic, data in by.retained.items() if self._published.get(topic) != data}
        self.attacker.put(gone | fresh)
        self._published = dict(by.retained)

    def offer(self, by: Repository, release: Published | None, frame_id: str = FRAME, **changes: object) -> int:
        """A newer DesiredState under the director's key as ``by`` has it, over the repository as ``by`` made it."""
        self.put(by)
        self._version += 1
        self.send(by.envelope(desired(frame_id, self._version, release, **changes)))
        return self._version

    def send(self, envelope: bytes) -> None:
        """Any bytes where the frame's DesiredState belongs."""
        self.attacker.assign(FRAME, self._version, envelope)

    def evil_release(self, by: Repository) -> Published:
        """An unsigned model and adapter in a release of their own, signed as far as ``by`` has keys."""
        base = by.base(EVIL, "6.6")
        return by.release("portrait", "6.6", [base, by.adapter(EVIL + b"!", base, "malice-6.6")])

    # --- what the frame does ------------------------------------------------------------------------------------------

    def settled(self, state: str) -> ReportedState:
        """The frame's report once it has dealt with the newest offer."""
        until(lambda: any(self._answers(report, state) for report in list(self.attacker.reports)))
        return next(report for report in reversed(self.attacker.reports) if self._answers(report, state))

    def refused(self, *reasons: str) -> None:
        """The newest offer came to nothing, for one of these reasons."""
        failure = self.settled("failed").failure
        assert failure is not None
        assert failure.reason in reasons

    def _answers(self, report: ReportedState, state: str) -> bool:
        return report.state == state and report.desired_version == self._version

    def objected(self, kind: str, since: int = 0) -> HealthEvent:
        """The HealthEvent of this kind, once the backend has it."""

        def found() -> list[HealthEvent]:
            return [
                event
                for event in list(self.attacker.events.values())[since:]
                if isinstance(event, HealthEvent) and event.kind == kind
            ]

        until(lambda: bool(found()))
        return found()[-1]

    def note(self, count: int = 3) -> None:
        """People use the frame: events that must not be lost."""

        def happened(now: float) -> list[Command]:
            for _ in range(count):
                self.outbox.append(health("film", "seen", at=1, release=None))
            return self.core.wake_up(now)

        self._noted += count
        self.driver.submit(happened)

    def unharmed(self, tried: int = 1) -> None:
        """0 installs, 0 events lost, and the good release plays."""
        self.note()
        until(lambda: self._films() == self._noted)
        assert len(self.trial.tried) == tried, "something was tried that must not be"
        playing = self.core.playing
        assert playing is not None
        assert playing.release == self.good.release.sha256
        assert self.core.journal.committed == playing
        for name in playing.files():
            assert self.store.has(name), "what plays is whole"

    def _films(self) -> int:
        kept = list(self.attacker.events.values())
        return sum(isinstance(event, HealthEvent) and event.kind == "film" for event in kept)


__all__ = ["EVIL", "SAFE", "Home", "Reason"]
