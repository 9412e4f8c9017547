"""What can happen to a rollout, as data: an event keeps its action, so that the events alone give the state again."""

from dataclasses import asdict, dataclass
from typing import Any, get_args

from ota.domain.causes import Cause, Code


@dataclass(frozen=True, slots=True)
class Propose:
    """A draft is complete; somebody else has to approve it."""


@dataclass(frozen=True, slots=True)
class Approve:
    """A second person agrees."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Nothing is missing but the hour."""


@dataclass(frozen=True, slots=True)
class Begin:
    """From now on frames are offered the release."""


@dataclass(frozen=True, slots=True)
class OpenStage:
    """The frames of stage ``number`` may be offered the release. ``look`` is the one that asked for it, if any."""

    number: int
    look: int | None = None


@dataclass(frozen=True, slots=True)
class CompleteStage:
    """Every frame of stage ``number`` is settled."""

    number: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Offer nothing until somebody resumes. ``cause`` is what the engine found, None when a person asks."""

    reason: str
    cause: Cause | None = None
    look: int | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on. ``accepted`` failures (stage number -> frames) and, in stage ``overruled``, the verdict were seen by
    whoever resumed and count no more."""

    accepted: tuple[tuple[int, int], ...] = ()
    overruled: int = 0


@dataclass(frozen=True, slots=True)
class Succeed:
    """The last stage is complete."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop offering: frames that have not committed keep what they had."""

    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class RollBack:
    """Stop offering, and tell the updated frames to return to the release they had."""

    cause: Cause | None = None
    look: int | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Every frame that was told to return has done so, or is silent."""


Action = (
    Propose
    | Approve
    | Schedule
    | Begin
    | OpenStage
    | CompleteStage
    | Pause
    | Resume
    | Succeed
    | Abort
    | RollBack
    | Finish
)

_BY_NAME: dict[str, type[Action]] = {kind.__name__: kind for kind in get_args(Action)}


def as_detail(action: Action) -> dict[str, object]:
    """The action in JSON's types."""
    detail: dict[str, object] = {"kind": type(action).__name__, **asdict(action)}
    cause = getattr(action, "cause", None)
    if cause is not None:
        detail["cause"] = cause.as_detail()
    return detail


def from_detail(detail: dict[str, Any]) -> Action:
    """The action that ``as_detail`` kept. Raises KeyError or TypeError for anything else."""
    given = dict(detail)
    kind = _BY_NAME[given.pop("kind")]
    if given.get("cause") is not None:
        given["cause"] = Cause(Code(given["cause"]["code"]), given["cause"]["parameters"])
    if "accepted" in given:
        given["accepted"] = tuple((number, failures) for number, failures in given["accepted"])
    return kind(**given)
