"""What happens to an installation, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from device_agent.installer.slots import Slot
from protocol.messages import Failure, LipError

# --- what happens -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A DesiredState asks for nothing: keep what was committed."""

    version: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A DesiredState names what was committed already."""

    version: int


@dataclass(frozen=True, slots=True)
class Began:
    """A DesiredState names another release; it also replaces one that is on its way."""

    version: int
    release: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything the release needs is in the store."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Every file in the store is what both signatures named."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class TrialBegan:
    """The trial is about to run."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The golden clips said yes: probation begins."""

    lip_errors: tuple[LipError, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Continued:
    """A DesiredState names the release that is on probation."""

    version: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far probation has come, in all; and whether the backend has answered the agent since it started."""

    playbacks: int
    healthy_s: float
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The agent ends in order while a release is on probation."""

    playbacks: int
    healthy_s: float


@dataclass(frozen=True, slots=True)
class Proved:
    """Probation has lasted long enough."""

    playbacks: int
    healthy_s: float


@dataclass(frozen=True, slots=True)
class NotPassed:
    """The trial said no: the golden clips (then what they measured comes with it), or what happened on probation."""

    failure: Failure
    lip_errors: tuple[LipError, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedRelease:
    """The release on its way was refused before its trial, or its golden clips could not be run."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RefusedOffer:
    """The director's newest DesiredState was refused as such; it also ends what is on its way."""

    version: int
    release: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Objected:
    """Something that is not the director's newest word to this frame was refused."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Crashed:
    """Rendering crashed or hung in a film of the committed release."""


@dataclass(frozen=True, slots=True)
class Steadied:
    """After that, one of its films came to its end."""


@dataclass(frozen=True, slots=True)
class FellBack:
    """The committed release crashes film after film: the one committed before it plays again."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Renewed:
    """The same order was issued anew, before the DesiredState that is held expires."""

    version: int


@dataclass(frozen=True, slots=True)
class Disowned:
    """The director's root names other keys than the ones that signed the DesiredState which is held: its version binds
    nobody any more."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent started again."""


Event = (
    Kept
    | Settled
    | Began
    | Fetched
    | Verified
    | TrialBegan
    | Passed
    | Continued
    | Progressed
    | Stopped
    | Proved
    | NotPassed
    | RefusedRelease
    | RefusedOffer
    | Objected
    | Crashed
    | Steadied
    | FellBack
    | Renewed
    | Disowned
    | Restarted
)


# --- what is to be done -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Save:
    """Write the journal; always first, and nothing else happens if it fails."""


@dataclass(frozen=True, slots=True)
class Report:
    """Publish a ReportedState."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Delete from the store what no slot names."""


@dataclass(frozen=True, slots=True)
class Note:
    """Record a HealthEvent that says why."""

    failure: Failure


Effect = Save | Report | Collect | Note
