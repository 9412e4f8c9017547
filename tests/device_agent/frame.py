"""A frame in memory against a broker in memory: time passes only as far as the frame waits for it."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from device_agent.core import FrameCore
from device_agent.installer.slots import Installed, Slot
from device_agent.ports import FrameIdentity, Ports, Store, TrialPolicy, TrialReport
from device_agent.storage.journal import MemoryDocuments, MemoryJournal
from device_agent.storage.outbox import MemoryOutbox
from device_agent.storage.store import MemoryStore
from device_agent.transfer.ports import TransferPorts
from device_agent.transfer.usage import MemoryUsage
from device_agent.trust.epoch import EpochStore, MemoryEpoch
from device_agent.trust.image import ImageTrust
from device_agent.trust.time import Now, utc_now
from protocol import topics
from protocol.exchange import Command, Done, Publish, Subscribe, Unsubscribe
from protocol.fetching import WINDOW
from protocol.messages import HealthEvent, Hello, LipError, ReportedState
from protocol.sequences import Perform, RetryPolicy

FRAME = "frame-1"
NO_PROBATION = TrialPolicy(healthy_s=0.0)
"""For what is not about probation: whatever passes the golden clips is committed."""
QUICK = RetryPolicy(tries=3, timeout_s=1.0, first_backoff_s=0.1, max_backoff_s=0.5)
MEASURED = (LipError(segment="mandarin", lip_mm=0.3, mean_pose_mm=1.4, limit_mm=0.9),)


@dataclass
class FakeTrial:
    """Says what a test wants; the real one is tested over the real model."""

    report: TrialReport = field(default_factory=lambda: TrialReport(MEASURED))
    tried: list[Slot] = field(default_factory=list)
    error: BaseException | None = None

    def measure(self, slot: Slot) -> TrialReport:
        self.tried.append(slot)
        if self.error is not None:
            raise self.error
        return self.report


class Frame:
    """Ports in memory, the core over them, and a driver that reads ``retained``."""

    def __init__(
        self,
        retained: dict[str, bytes],
        anchors: dict[str, bytes],
        store: Store | None = None,
        policy: TrialPolicy = NO_PROBATION,
    ) -> None:
        self.retained = retained
        self.documents = MemoryDocuments(anchors)
        self.journal_port = MemoryJournal()
        self.store: Store = store if store is not None else MemoryStore({})
        self.outbox = MemoryOutbox()
        self.trial = FakeTrial()
        self.epoch: EpochStore = MemoryEpoch()
        self.security_now: Now = utc_now
        self.policy = policy
        self.running: Installed | None = None
        """The agent of the next start; None for the image's."""
        self.not_started: str | None = None
        self.usage = MemoryUsage()
        self.now = 0.0
        self.fetched: Counter[str] = Counter()
        self.published: list[Publish] = []
        self.subscribed: set[str] = set()
        self.before_message: Callable[[str], bool] = lambda topic: True
        self.core = self.boot()

    def boot(self) -> FrameCore:
        """Start (again) over the same ports."""
        self.subscribed = set()
        ports = Ports(
            journal=self.journal_port,
            documents=self.documents,
            store=self.store,
            outbox=self.outbox,
            trial=self.trial,
            trust=lambda documents: ImageTrust(documents, self.clock),
            epoch=self.epoch,
            security_now=self.clock,
            transfer=TransferPorts(usage=self.usage, local_time=self.local_time),
        )
        version = self.running.version if self.running is not None else "0.1.0"
        agent = self.running.sha256 if self.running is not None else None
        identity = FrameIdentity(FRAME, "rk3588", "zh", version, runtimes={"onnx": "1.22.0"}, agent=agent)
        self.core = FrameCore(identity, ports, QUICK, self.policy, lambda journal: self.not_started)
        return self.core

    def clock(self) -> dt.datetime | None:
        """Security time, which a test may change."""
        return self.security_now()

    def local_time(self) -> dt.datetime:
        """Midnight when the frame was made; its time passes as everything else does."""
        return dt.datetime(2026, 3, 5) + dt.timedelta(seconds=self.now)

    def connect(self) -> None:
        self.run(self.core.connected(self.now))

    def disconnect(self) -> None:
        self.subscribed.clear()
        self.core.disconnected()

    def give(self, envelope: bytes) -> None:
        """The frame's DesiredState arrives."""
        self.run(self.core.received(topics.frame_topic(FRAME, "desired"), envelope, self.now))

    def run(self, commands: list[Command]) -> None:
        """Carry out what the core asks for until it waits for nothing but time."""
        todo = list(commands)
        while todo:
            match todo.pop(0):
                case Subscribe(topic):
                    self.subscribed.add(topic)
                    repo = [held for held in self.subscribed if held.startswith("repo/")]
                    bound = WINDOW if all(held.startswith("repo/chunk/") for held in repo) else 1
                    assert len(repo) <= bound, f"exact topics, {bound} at a time, not {repo}"
                    payload = self.retained.get(topic)
                    if payload is not None and self.before_message(topic):
                        self.fetched[topic] += 1
                        todo += self.core.received(topic, payload, self.now)
                case Unsubscribe(topic):
                    self.subscribed.discard(topic)
                case Publish() as publish:
                    self.published.append(publish)
                case Perform() as work:
                    try:
                        outcome: Done[object] = Done(value=work.work())
                    except Exception as error:
                        outcome = Done(error=error)
                    todo += self.core.performed(work, outcome, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        end = self.now + seconds
        while (deadline := self.core.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.run(self.core.tick(self.now))
        self.now = end

    @property
    def reports(self) -> list[ReportedState]:
        topic = topics.frame_topic(FRAME, "reported")
        return [msgspec.json.decode(p.payload, type=ReportedState) for p in self.published if p.topic == topic]

    @property
    def hellos(self) -> list[Hello]:
        topic = topics.frame_topic(FRAME, "hello")
        return [msgspec.json.decode(p.payload, type=Hello) for p in self.published if p.topic == topic]

    @property
    def health(self) -> list[HealthEvent]:
        return [event for event in self.outbox.peek(1_000) if isinstance(event, HealthEvent)]
