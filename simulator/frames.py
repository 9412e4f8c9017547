"""Simulated frames as enrolment and factory leave them: identity and trust anchors from disk, a release in slot A."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.core import FrameCore
from device_agent.folder import AgentFolder, ConfigError, read_identity
from device_agent.installer.slots import Journal, file_of
from device_agent.ports import FrameIdentity, Ports, TrialPolicy, TrialReport
from device_agent.storage.journal import MemoryDocuments, MemoryJournal
from device_agent.storage.outbox import MemoryOutbox
from device_agent.telemetry import random_id
from device_agent.transport import TlsFiles
from device_agent.trust.epoch import MemoryEpoch
from protocol.messages import PlaybackEvent
from protocol.repository import DIRECTOR_ROOT
from protocol.sequences import DEFAULT_RETRY, RetryPolicy
from simulator.content import SharedContent, SharedStore
from simulator.factory import FactoryRelease
from simulator.people import Household, segment_of
from simulator.trials import SharedTrials
from simulator.trust import TrustCache

MAX_FRAMES = 50_000
MAX_ANCHOR = 64 * 1024
OUTBOX_EVENTS = 1_000
SETTLED = frozenset({"idle", "committed", "reverted", "failed"})


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One frame's folder as ``enrol_frames`` writes it."""

    identity: FrameIdentity
    tls: TlsFiles


@dataclass(frozen=True, slots=True)
class Shared:
    """What all frames of the process have in common."""

    content: SharedContent
    trials: SharedTrials
    trust: TrustCache
    anchors: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Lived:
    """What people did for a while: how many ``events`` that made, and how many ``films`` of which ``release``."""

    events: int = 0
    films: int = 0
    release: str | None = None


@dataclass(slots=True)
class SimulatedFrame:
    """A frame and the people in front of it. ``appended`` counts events, ``store`` says what it holds."""

    core: FrameCore
    outbox: MemoryOutbox
    store: SharedStore
    people: Household
    trials: SharedTrials
    segment: str
    image: FrameIdentity
    """Who it is with the agent it was made with."""
    appended: int = 0
    told_ms: int = 0
    """People's time when the frame last had something to say."""

    @property
    def settled(self) -> bool:
        """Whether what it plays is not about to change."""
        return self.core.journal.state in SETTLED

    def change_agent(self) -> bool:
        """Whether the frame goes on with the agent that its playing release brought (or gave back). All simulated
        frames run this process's code: only what such a frame says it runs changes."""
        wanted, said = self.core.journal.agent, self.core.identity
        if file_of(wanted) == said.agent:
            return False
        self.core.identity = (
            replace(self.image, agent=wanted.sha256, agent_version=wanted.version) if wanted is not None else self.image
        )
        return True

    def begin(self, now_ms: int) -> None:
        """Nobody has played before ``now_ms`` (people's time)."""
        self.people.now_ms = max(self.people.now_ms, now_ms)
        self.told_ms = max(self.told_ms, now_ms)

    def live(self, until_ms: int) -> Lived:
        """Let the people live up to ``until_ms`` (simulated)."""
        playing = self.core.playing
        lip_mm = self.trials.lip_mm(playing, self.segment)
        release = None if playing is None else playing.release
        events = films = 0
        for event in self.people.live(until_ms, release, lip_mm):
            self.outbox.append(event)
            events += 1
            films += isinstance(event, PlaybackEvent)
        self.appended += events
        if events:
            self.told_ms = until_ms
        return Lived(events, films, release)


def read_enrolled(folder: Path) -> list[Enrolled]:
    """All frames below ``folder``, by id. Raises ConfigError with one sentence."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: enrol frames into it with `manage.py enrol_frames --out`.")
    paths = sorted(path.parent for path in folder.glob("*/frame.json"))
    if not 1 <= len(paths) <= MAX_FRAMES:
        raise ConfigError(f"{folder} holds {len(paths)} enrolled frames; 1 to {MAX_FRAMES} are needed.")
    return [_read_one(path) for path in paths]


def _read_one(path: Path) -> Enrolled:
    identity = read_identity(_Folder(path))
    if not identity.simulated:
        raise ConfigError(f"{identity.frame_id} was not enrolled with --simulated: only such frames are simulated.")
    return Enrolled(identity, TlsFiles(path / "ca.pem", path / "cert.pem", path / "key.pem"))


class _Folder(AgentFolder):
    """An enrolment's folder, whose files an agent has below ``identity/``."""

    @property
    def identity(self) -> Path:
        return self.path


def read_anchors(folder: Path) -> dict[str, bytes]:
    """``root.json`` and ``director-root.json``. Raises ConfigError."""
    anchors = {}
    for name in ("root", DIRECTOR_ROOT):
        path = folder / f"{name}.json"
        try:
            with path.open("rb") as file:
                anchors[name] = file.read(MAX_ANCHOR)
        except OSError as error:
            raise ConfigError(f"The trust anchor {path} cannot be read ({error.strerror}): copy it there.") from None
    return anchors


def provision(factory: FactoryRelease, store: SharedStore, report: TrialReport) -> Journal:
    """What a factory does: the release's files in the store, its slot A active, proved by ``report``."""
    store.adopt(factory.digest)
    for artifact in factory.slot.artifacts:
        store.adopt(artifact.sha256)
    return Journal(
        journal_id=random_id(),
        state="committed",
        active="A",
        slot_a=factory.slot,
        lip_errors=report.lip_errors,
        figures=dict(report.figures),
        active_lip_errors=report.lip_errors,
        active_figures=dict(report.figures),
    )


def make_frame(
    enrolled: Enrolled,
    shared: Shared,
    journal: Callable[[SharedStore], Journal | None],
    people: Household,
    policy: TrialPolicy,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> SimulatedFrame:
    """A frame in memory; ``journal`` provisions its store (or leaves it blank), ``policy`` is at the people's pace."""
    store = SharedStore(shared.content)
    outbox = MemoryOutbox(OUTBOX_EVENTS)
    ports = Ports(
        journal=MemoryJournal(journal(store)),
        documents=MemoryDocuments(shared.anchors),
        store=store,
        outbox=outbox,
        trial=shared.trials,
        trust=shared.trust.open,
        epoch=MemoryEpoch(),
    )
    core = FrameCore(enrolled.identity, ports, retry, policy)
    segment = segment_of(enrolled.identity.locale)
    return SimulatedFrame(core, outbox, store, people, shared.trials, segment, enrolled.identity, told_ms=people.now_ms)
