"""What the installer remembers: two slots over the content store, and the journal that says which of them plays."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.messages import Failure, InstallState, LipError, RandomId, Sha256, Version
from protocol.repository import ArtifactKind

SlotName = Literal["A", "B"]


class Installed(Struct, frozen=True, kw_only=True):
    """One file of a release in the store."""

    kind: ArtifactKind
    path: str
    length: int
    sha256: Sha256
    version: str = ""
    """Of an agent."""


def file_of(agent: Installed | None) -> str | None:
    """SHA-256 of an agent's file; None for the image's own agent, which has none in the store."""
    return agent.sha256 if agent is not None else None


class Slot(Struct, frozen=True, kw_only=True):
    """A manifest over the content store: the release's digest and its files, all of them verified."""

    release: Sha256
    artifacts: tuple[Installed, ...]
    security_epoch: Annotated[int, Meta(ge=0)] = 0
    """Of the release; the frame's floor once it is committed."""

    @property
    def bundle(self) -> Installed:
        """The base model."""
        return next(artifact for artifact in self.artifacts if artifact.kind == "base_model")

    @property
    def adapter(self) -> Installed | None:
        """The LoRA delta, where the release has one."""
        return next((artifact for artifact in self.artifacts if artifact.kind == "lora_delta"), None)

    @property
    def agent(self) -> Installed | None:
        """The agent it runs on: its release's, or the one that an earlier release brought; None for the image's."""
        return next((artifact for artifact in self.artifacts if artifact.kind == "agent"), None)

    def files(self) -> frozenset[str]:
        """Hashes of everything this slot needs in the store, the release's manifest included."""
        return frozenset({self.release, *(artifact.sha256 for artifact in self.artifacts)})


class Probation(Struct, frozen=True, kw_only=True):
    """How far a release has come that passed the golden clips and now plays, before it is committed."""

    playbacks: Annotated[int, Meta(ge=0)] = 0
    """Without a crash."""
    healthy_s: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds in which the agent ran."""
    restarts: Annotated[int, Meta(ge=0)] = 0
    """Starts of the agent that no orderly stop preceded, since the last playback."""
    stopped: bool = False
    """Whether the agent was stopped in order; it has not started since."""
    answered: bool = False
    """Whether the backend has answered the agent that the release runs on."""

    @property
    def figures(self) -> dict[str, float]:
        """As they travel in a report."""
        return {"playbacks": float(self.playbacks), "healthy_h": round(self.healthy_s / 3_600, 3)}


class Journal(Struct, frozen=True, kw_only=True):
    """What survives a power cut. ``sequence`` grows with every step and orders the reports."""

    v: Literal[1] = 1
    journal_id: RandomId
    sequence: Version = 0
    state: InstallState = "idle"
    active: SlotName | None = None
    """The slot whose release was committed last; it plays unless the other one is on probation."""
    slot_a: Slot | None = None
    slot_b: Slot | None = None
    desired_version: Version = 0
    target: Sha256 | None = None
    """The release on its way; after reverted or failed, the one that did not make it."""
    failure: Failure | None = None
    lip_errors: tuple[LipError, ...] = ()
    figures: dict[str, float] = {}
    """What the last trial measured beside them, and how far its probation came, once it has ended."""
    active_lip_errors: tuple[LipError, ...] = ()
    active_figures: dict[str, float] = {}
    """The same of the release in the active slot; said again where another trial since ended without a commit."""
    probation: Probation | None = None
    """Only in the state ``trial``: the golden clips said yes, and the other slot plays."""
    trial_attempts: Annotated[int, Meta(ge=0)] = 0
    crashes: Annotated[int, Meta(ge=0)] = 0
    """Films of the committed release that crashed or hung, since one came to its end."""
    fallback: bool = False
    """Whether the other slot holds the release that was committed before this one."""

    def slot(self, name: SlotName | None) -> Slot | None:
        """The content of a slot, None for an empty one."""
        return {"A": self.slot_a, "B": self.slot_b, None: None}[name]

    @property
    def playing_slot(self) -> SlotName | None:
        """Name of the slot that plays; None on a blank frame."""
        return self.active if self.probation is None else self.other

    @property
    def playing(self) -> Slot | None:
        """The slot that plays; None on a blank frame."""
        return self.slot(self.playing_slot)

    @property
    def agent(self) -> Installed | None:
        """The agent that is to run; None for the image's."""
        return self.playing.agent if self.playing is not None else None

    @property
    def changes_agent(self) -> bool:
        """Whether the release on probation runs on another agent than the committed one."""
        return self.agent != (self.committed.agent if self.committed is not None else None)

    @property
    def committed(self) -> Slot | None:
        """The slot that plays whatever becomes of the other one; None on a frame that never committed a release."""
        return self.slot(self.active)

    @property
    def other(self) -> SlotName:
        """The slot that a new release goes into; it plays while that is on probation."""
        return "B" if self.active == "A" else "A"

    @property
    def before(self) -> Slot | None:
        """The release committed before this one, if it is still there and of no older security epoch."""
        committed, other = self.committed, self.slot(self.other)
        if not self.fallback or committed is None or other is None:
            return None
        return other if other.security_epoch >= committed.security_epoch else None

    def agent_for(self, release: str, running: str | None) -> Installed | None:
        """The agent that a release runs on that brings none: the one it had when it was here before, else the committed
        release's; but where the image's stands in for that one (``running`` is None), the image's."""
        for slot in (self.slot_a, self.slot_b):
            if slot is not None and slot.release == release:
                return slot.agent
        return None if running is None or self.committed is None else self.committed.agent

    def files(self) -> frozenset[str]:
        """Hashes of everything a slot names."""
        return frozenset().union(*(slot.files() for slot in (self.slot_a, self.slot_b) if slot))
