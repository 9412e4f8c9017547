"""What the core of the agent needs from the world. The agent gives files and threads, the simulator memory.

Every port but ``Trial`` is called from the one loop that feeds the core, so none needs a lock for that.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tuf.api.metadata import Root

from device_agent.installer.slots import Journal, Slot
from device_agent.transfer.ports import TransferPorts
from device_agent.trust.epoch import EpochStore
from device_agent.trust.time import Now, utc_now
from protocol import session
from protocol.fetching import ObjectSink
from protocol.messages import AnyEvent, Failure, LipError
from protocol.repository import ArtifactManifest
from protocol.sequences import Trust


@dataclass(frozen=True, slots=True)
class FrameIdentity:
    """Who the frame is (``frame.json``) and which agent runs on it."""

    frame_id: str
    hardware: str
    locale: str
    agent_version: str
    simulated: bool = False
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """Version of each inference runtime that is installed, by its name in a ``RuntimeRange``."""
    agent: str | None = None
    """SHA-256 of the agent's file; None for the image's own."""


class DocumentStore(Protocol):
    """Signed documents by name: ``root``, ``director-root``, ``timestamp``, ..., and ``desired`` (an envelope)."""

    def load(self, name: str) -> bytes | None:
        """The document, None when there is none."""

    def save(self, name: str, document: bytes) -> None:
        """Replace it, durably, all or nothing."""


class JournalPort(Protocol):
    """Where the journal lives."""

    def load(self) -> Journal | None:
        """The journal last saved, None on a new frame."""

    def save(self, journal: Journal) -> None:
        """Replace it, durably, all or nothing."""


class Store(Protocol):
    """Artifacts by SHA-256."""

    def has(self, sha256: str) -> bool:
        """Whether it is there, complete."""

    def read(self, sha256: str) -> bytes:
        """All of it; for small ones. Raises Refused(BAD_ARTIFACT) when it is not there."""

    def sink(self, sha256: str, length: int) -> ObjectSink:
        """Where its chunks go."""

    def held(self, sha256: str) -> int:
        """Bytes on the disk of one that is on its way: so much less is needed for it."""

    def check(self, sha256: str, length: int) -> None:
        """Read it again and compare; a damaged one is deleted. Raises Refused(BAD_ARTIFACT)."""

    def room(self, needed: int) -> None:
        """Raises Refused(DISK_FULL) when ``needed`` more bytes do not fit."""

    def collect(self, keep: frozenset[str]) -> int:
        """Delete everything but ``keep``; returns how many files went."""


class Outbox(session.Outbox, Protocol):
    """Events until they are committed in the backend."""

    def append(self, event: AnyEvent) -> int:
        """Keep the event under the next sequence number (its own is ignored), and return that."""

    def flush(self) -> None:
        """Make everything appended durable."""


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What a trial measured; ``failure`` says why it did not pass. ``figures`` go by name with unit."""

    lip_errors: tuple[LipError, ...]
    failure: Failure | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPolicy:
    """When a release on probation is committed: after this many ``playbacks`` without a crash, or after ``healthy_s``
    seconds in which the agent ran. ``rate`` is how many of these pass in one second: 1, but for simulated people."""

    playbacks: int = 3
    healthy_s: float = 86_400.0
    rate: float = 1.0


class Trial(Protocol):
    """Proves a release that is in the store, before it plays."""

    def measure(self, slot: Slot) -> TrialReport:
        """Slow, and called beside the loop. Raises Refused when the release cannot even be tried."""


@dataclass(frozen=True, slots=True)
class SignedTarget:
    """What the image repository says about one file."""

    path: str
    length: int
    sha256: str
    manifest: ArtifactManifest


class FrameTrust(Trust, Protocol):
    """One refresh of the frame's view of the image repository, and what it knows afterwards."""

    @property
    def director_root(self) -> Root:
        """The director's newest trusted root."""

    def target(self, path: str) -> SignedTarget:
        """What is signed about ``path``. Raises Refused(ROLES_DISAGREE) when nothing is."""


def wall_clock_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def _forget(_at: int) -> None:
    """Nobody keeps the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything a FrameCore touches. ``trust`` opens a new FrameTrust over the stored documents; ``now_ms`` dates
    reports and events, ``security_now`` is what expiry is compared with and always the real time. ``witness`` hears of
    each moment (ms) at which the director signed something: it lies in the past. ``sent_ms`` is the clock that dates
    events, told with each batch so that the backend can put it right; None where that clock is the backend's own."""

    journal: JournalPort
    documents: DocumentStore
    store: Store
    outbox: Outbox
    trial: Trial
    trust: Callable[[DocumentStore], FrameTrust]
    epoch: EpochStore
    security_now: Now = utc_now
    now_ms: Callable[[], int] = wall_clock_ms
    sent_ms: Callable[[], int] | None = None
    witness: Callable[[int], None] = _forget
    transfer: TransferPorts = field(default_factory=TransferPorts)
