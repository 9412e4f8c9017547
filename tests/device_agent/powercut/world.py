"""A frame over a disk that can be cut, the backend's side of its conversation, and what must be true of both."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from device_agent.boot import STEADY_S, Boot
from device_agent.clock import SecurityClock
from device_agent.core import FrameCore
from device_agent.folder import AgentFolder
from device_agent.installer.slots import Journal, Slot
from device_agent.ports import FrameIdentity, Ports, TrialPolicy, TrialReport
from device_agent.storage.disk import using
from device_agent.storage.journal import FileDocuments, FileJournal
from device_agent.storage.outbox import FileOutbox
from device_agent.storage.store import FileStore
from device_agent.telemetry import health
from device_agent.transfer.ports import TransferPorts
from device_agent.transfer.usage import FileUsage
from device_agent.trust.epoch import FileEpoch
from device_agent.trust.image import ImageTrust, director_root
from protocol import topics
from protocol.chunks import sha256_hex
from protocol.errors import Reason
from protocol.exchange import Command, Done, Publish, Subscribe, Unsubscribe
from protocol.messages import Failure, Hello, LipError, TelemetryBatch
from protocol.sequences import Perform, RetryPolicy
from tests.device_agent.powercut.backend import FRAME, Backend, Wrong
from tests.device_agent.powercut.model import ModelDisk
from tests.device_agent.repository import Published, Repository

ROOT = Path("/frame")
POLICY = TrialPolicy(playbacks=2, healthy_s=86_400.0)
QUICK = RetryPolicy(tries=3, timeout_s=1.0, first_backoff_s=0.1, max_backoff_s=0.5)
MEASURED = (LipError(segment="mandarin", lip_mm=0.3, mean_pose_mm=1.4, limit_mm=0.9),)
MISSED = Failure(reason=Reason.TRIAL_FAILED, detail="The lips are off.")
SETTLE_S = 2 * 86_400.0
MAX_TURNS = 10_000


class PowerCut(BaseException):
    """The power goes at this moment."""


@dataclass
class Truth:
    """What the frame's journal may say, whatever happened: the one whose save returned last, or one on its way."""

    saved: Journal | None = None
    saving: tuple[Journal, ...] = ()

    def copy(self) -> "Truth":
        return Truth(self.saved, self.saving)

    @property
    def possible(self) -> list[Journal]:
        return [journal for journal in (self.saved, *self.saving) if journal is not None]


class WatchedJournal:
    """The agent's journal, and a note of what it was told."""

    def __init__(self, port: FileJournal, truth: Truth) -> None:
        self._port = port
        self._truth = truth

    def load(self) -> Journal | None:
        return self._port.load()

    def save(self, journal: Journal) -> None:
        # One whose save failed may be on the disk all the same, until the next save that succeeds.
        self._truth.saving = (*self._truth.saving, journal)
        self._port.save(journal)
        self._truth.saved, self._truth.saving = journal, ()


class Became(Exception):
    """The process is another agent from here on."""

    def __init__(self, agent: Path | None) -> None:
        self.agent = agent


class ModelBoot(Boot):
    """What starts the agents, up to the moment at which the process becomes one."""

    def _become(self, agent: Path | None) -> NoReturn:
        raise Became(agent)


def booted() -> ModelBoot:
    """The agent that stays, as its own boot sees it."""
    folder, running = AgentFolder(ROOT), None
    try:
        boot = ModelBoot(folder, {}, [], running)
        boot.begin(POLICY.healthy_s)
    except Became as became:
        assert became.agent is not None
        boot = ModelBoot(folder, {}, [], became.agent.name)
    return boot


class Frame:
    """A frame from its start until it is cut off: one process, in which one agent may give way to another. To be used
    within ``using(disk)``."""

    def __init__(self, disk: ModelDisk, backend: Backend, truth: Truth) -> None:
        self.disk, self.backend, self.truth = disk, backend, truth
        self.now = 0.0
        self.silent: set[str] = set()
        """Topics that bring nothing for now."""
        self.subscribed: set[str] = set()
        self.ran: list[str | None] = []
        """Agents, one after the other; None is the image's."""
        self._start()

    def _start(self) -> None:
        self.boot = boot = booted()
        self.ran.append(boot.running)
        if boot.running is not None:
            require_bytes(self.disk, boot.running, "the agent that runs")
        documents = FileDocuments(ROOT / "trust")
        clock = SecurityClock(documents, director_root(documents).version)
        self.store = FileStore(ROOT, headroom=0)
        self.outbox = FileOutbox(ROOT / "outbox", max_bytes=24 * 1024, segment_bytes=2 * 1024)
        self.usage = FileUsage(ROOT / "usage.json")
        ports = Ports(
            journal=WatchedJournal(FileJournal(ROOT / "journal.json"), self.truth),
            documents=documents,
            store=self.store,
            outbox=self.outbox,
            trial=self,
            trust=partial(ImageTrust, now=clock.now),
            epoch=FileEpoch(ROOT / "security-epoch"),
            security_now=clock.now,
            witness=clock.witness,
            transfer=TransferPorts(usage=self.usage),
        )
        identity = FrameIdentity(FRAME, "rk3588", "zh", "0.1.0", agent=boot.running)
        self.core = FrameCore(identity, ports, QUICK, POLICY, boot.not_started)

    def change_agent(self) -> None:
        """One agent ends in order and the next begins, where the journal wants that."""
        while self.boot.wants_another(self.core.journal):
            online = self.core.online
            self.core.stop(self.now)
            self.outbox.close()
            self._start()
            if online:
                self.run(self._safely(self.core.connected, self.now))

    def measure(self, slot: Slot) -> TrialReport:
        """The trial."""
        require_whole(self.disk, slot)
        return TrialReport(MEASURED, MISSED if slot.release in self.backend.bad else None)

    def connect(self) -> None:
        self.do(self.core.connected, self.now)

    def disconnect(self) -> None:
        self.subscribed.clear()
        self.core.disconnected()

    def offer(self, published: Published | None) -> None:
        self.backend.offer(published)
        self.run(self._deliver("desired", self.backend.envelope))
        self.change_agent()

    def note(self, text: str) -> None:
        """An event of the frame's own."""
        try:
            self.outbox.append(health("note", text, at=1, release=None))
        except OSError:
            return  # it is told in the log that the disk did not take it
        self.do(self.core.wake_up, self.now)

    def play(self, crash: str | None = None) -> None:
        """A film with what plays."""
        playing = self.core.playing
        if playing is None:
            return
        require_whole(self.disk, playing)
        if crash is not None:
            self.backend.crashed.add(playing.release)
        self.do(self.core.played, self.now, playing.release, crash)

    def wait(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        end = self.now + seconds
        turns = 0
        while (deadline := self.core.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.do(self.core.tick, self.now)
            turns += 1
            if turns > MAX_TURNS:
                raise Wrong("stuck", "the frame is never at rest")
        self.now = end
        self.boot.goes_on(self.core.journal, STEADY_S, answered=self.core.answered)
        self.change_agent()

    def settle(self) -> None:
        """Give it time and films until it has carried out what is desired."""
        for _ in range(8):
            if self.core.journal.probation is not None:
                self.play()
            elif self.core.journal.state == "failed" or self.core.journal.desired_version < self.backend.version:
                self.wait(SETTLE_S / 8)
            else:
                break
            self.wait(1.0)
        self.wait(60.0)

    def do(self, call: Callable[..., list[Command]], *arguments: object) -> None:
        """Tell the core something, and carry out what it asks for."""
        self.run(self._safely(call, *arguments))
        self.change_agent()

    def run(self, commands: list[Command]) -> None:
        """Carry out what the core asks for until it waits for nothing but time."""
        todo = list(commands)
        while todo:
            match todo.pop(0):
                case Subscribe(topic):
                    self.subscribed.add(topic)
                    if topic == topics.frame_topic(FRAME, "desired") and self.backend.envelope:
                        todo += self._safely(self.core.received, topic, self.backend.envelope, self.now)
                    elif topic in self.backend.repository.retained and topic not in self.silent:
                        payload = self.backend.repository.retained[topic]
                        todo += self._safely(self.core.received, topic, payload, self.now)
                case Unsubscribe(topic):
                    self.subscribed.discard(topic)
                case Publish(topic, said):
                    todo += self._answer(topic, said)
                case Perform() as work:
                    try:
                        outcome: Done[object] = Done(value=work.work())
                    except Wrong:
                        raise
                    except Exception as error:
                        outcome = Done(error=error)
                    todo += self._safely(self.core.performed, work, outcome, self.now)

    def _answer(self, topic: str, payload: bytes) -> list[Command]:
        if topic.endswith("/hello"):
            hello = msgspec.json.decode(payload, type=Hello)
            return self._deliver("ack", self.backend.ack(hello.outbox_id, hello=True))
        if topic.endswith("/events"):
            batch = msgspec.json.decode(payload, type=TelemetryBatch)
            self.backend.took(batch)
            return self._deliver("ack", self.backend.ack(batch.outbox_id, hello=False))
        return []

    def _deliver(self, kind: Literal["desired", "ack"], payload: bytes) -> list[Command]:
        return self._safely(self.core.received, topics.frame_topic(FRAME, kind), payload, self.now)

    def _safely(self, call: Callable[..., list[Command]], *arguments: object) -> list[Command]:
        """As the agent's driver does: what goes wrong in one turn of its loop ends only that."""
        try:
            return call(*arguments)
        except OSError:
            return []


def born(repository: Repository, capacity: int = 1 << 40) -> ModelDisk:
    """A disk as the factory leaves it."""
    disk = ModelDisk(capacity=capacity)
    for name, document in repository.anchors().items():
        disk.put(ROOT / "trust" / f"{name}.json", document)
    return disk


def require_whole(disk: ModelDisk, slot: Slot) -> None:
    """Every file the slot names is there and hashes right; asked of the disk, not of the agent."""
    for name in slot.files():
        require_bytes(disk, name, f"release {slot.release[:12]}")


def require_bytes(disk: ModelDisk, name: str, whose: str) -> None:
    content = disk.content(ROOT / "store" / name)
    if content is None or sha256_hex(content) != name:
        raise Wrong("bricked", f"{name[:12]} of {whose} is not whole")


def require_good(frame: Frame, found: Journal, before: Truth) -> None:
    """Right after a start over what a cut left: the journal says what it was told last or was being told, and what
    plays is the old release or the new one, whole. ``found`` was read from the disk before the agent started."""
    possible = before.possible
    if possible and found not in possible:
        raise Wrong(
            "journal", f"it says {found.state} {found.sequence}, not {[(j.state, j.sequence) for j in possible]}"
        )
    for slot in (found.slot_a, found.slot_b):
        if slot is not None:
            require_whole(frame.disk, slot)
    playing = frame.core.playing
    allowed = [slot.release for journal in possible for slot in (journal.playing, journal.committed) if slot]
    if playing is None:
        if possible and all(journal.committed for journal in possible):
            raise Wrong("bricked", "nothing plays although a release was committed")
    elif playing.release not in allowed:
        raise Wrong("bricked", f"{playing.release[:12]} plays, which is neither the old release nor the new one")
    else:
        require_whole(frame.disk, playing)


def recover(
    disk: ModelDisk, backend: Backend, truth: Truth, final: Published, during: Callable[[Frame], None] = lambda _: None
) -> Frame:
    """Start the agent over ``disk`` and drive it on until it has carried out what is desired, then ``final`` too.
    Raises Wrong. ``during`` is called once it runs."""
    with using(disk):
        before = truth.copy()
        found = FileJournal(ROOT / "journal.json").read()
        if found is None and before.saved is not None:
            raise Wrong("journal", "it is gone")
        frame = Frame(disk, backend, truth)
        if found is not None:
            require_good(frame, found, before)
        during(frame)
        frame.connect()
        frame.settle()
        require_settled(frame)
        frame.offer(final)
        frame.settle()
        require_settled(frame)
        frame.note("It goes on.")
        frame.wait(60.0)
        if frame.outbox.waiting:
            raise Wrong("events", f"{frame.outbox.waiting} events are never sent")
        return frame


def require_settled(frame: Frame) -> None:
    """The frame has done what is desired of it."""
    journal, offered = frame.core.journal, frame.backend.offered
    playing = frame.core.playing
    if playing is not None:
        require_whole(frame.disk, playing)
    told = f"{journal.state}, failure {journal.failure}"
    if frame.backend.version == 0:
        return
    if journal.desired_version != frame.backend.version:
        raise Wrong("stuck", f"the frame holds version {journal.desired_version} of {frame.backend.version}: {told}")
    if offered is None:
        return
    release = offered.release.sha256
    if release in frame.backend.crashed and journal.state == "reverted":
        return
    if journal.failure is not None and journal.failure.reason is Reason.OLD_EPOCH and playing is not None:
        return  # a story that is told again offers what the frame has left behind for good
    if release in frame.backend.bad:
        if journal.state != "reverted" or (playing is not None and playing.release == release):
            raise Wrong("stuck", f"a release that fails its trial must be reverted: {told}")
    elif playing is None or playing.release != release or journal.state != "committed":
        raise Wrong("stuck", f"the release that is desired is not committed: {told}")


def shuffled(seed: int) -> random.Random:
    """A generator of one's own."""
    return random.Random(seed)
