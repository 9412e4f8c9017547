"""The rollout's state machine, pure: facts and time in, actions out.

Two ways in, one table. ``decide`` is the engine's: called at every tick, it opens stages, completes them, pauses and
ends the rollout. ``command`` is a person's. Both return actions; ``apply`` carries one action over to the state and
refuses what ``TRANSITIONS`` does not hold. Whoever calls carries out what an action means for frames.

A stage is complete when every Deployment in it is settled (committed, failed, reverted or dark) and at least one has
committed. Whether the next stage then opens is its ``gate``'s business. Only the gate ``committed`` exists: the stage's
completion is all it asks. Gates that ask for evidence about people come in beside it, in ``GATES``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from ota.domain.causes import Cause, Code
from ota.domain.deployment import FAILURES, SETTLED, DeploymentState

FAILURE_LIMIT = 0.05
"""Share of a stage's frames that may fail or revert before the rollout pauses itself."""
TOLERATED_FAILURES = 1
"""Frames that may fail in any stage, however small: one broken frame on a wall is no verdict on a release."""


class RolloutState(StrEnum):
    """Where a rollout stands."""

    PROPOSED = "proposed"
    """Waits for a second person's approval; nothing is offered."""
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"


class Command(StrEnum):
    """What a person can ask for."""

    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    ADVANCE = "advance"
    ABORT = "abort"
    ROLLBACK = "rollback"


# --- actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Approve:
    """A second person agrees: begin."""


@dataclass(frozen=True, slots=True)
class OpenStage:
    """Offer the release to the frames of stage ``number``."""

    number: int


@dataclass(frozen=True, slots=True)
class CompleteStage:
    """Every frame of stage ``number`` is settled."""

    number: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Open no further stage until somebody resumes. ``cause`` is what the engine found, None when a person asks."""

    reason: str
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on. ``accepted`` failures (stage number -> frames) were seen by whoever resumed and count no more."""

    accepted: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Succeed:
    """The last stage is complete."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop offering: frames that have not committed keep what they had."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """Abort, and return the updated frames to the release they had."""


Action = Approve | OpenStage | CompleteStage | Pause | Resume | Succeed | Abort | RollBack

_R = RolloutState

TRANSITIONS: dict[tuple[RolloutState, type[Action]], RolloutState] = {
    (_R.PROPOSED, Approve): _R.RUNNING,
    (_R.PROPOSED, Abort): _R.ABORTED,
    (_R.RUNNING, OpenStage): _R.RUNNING,
    (_R.RUNNING, CompleteStage): _R.RUNNING,
    (_R.RUNNING, Pause): _R.PAUSED,
    (_R.RUNNING, Succeed): _R.SUCCEEDED,
    (_R.RUNNING, Abort): _R.ABORTED,
    (_R.RUNNING, RollBack): _R.ROLLED_BACK,
    (_R.PAUSED, Resume): _R.RUNNING,
    (_R.PAUSED, Abort): _R.ABORTED,
    (_R.PAUSED, RollBack): _R.ROLLED_BACK,
    # What went out can be taken back afterwards too.
    (_R.SUCCEEDED, RollBack): _R.ROLLED_BACK,
    (_R.ABORTED, RollBack): _R.ROLLED_BACK,
}

COMMANDS: dict[Command, type[Action]] = {
    Command.APPROVE: Approve,
    Command.PAUSE: Pause,
    Command.RESUME: Resume,
    Command.ADVANCE: OpenStage,
    Command.ABORT: Abort,
    Command.ROLLBACK: RollBack,
}


class NotAllowed(Exception):
    """The rollout's state does not allow this. The message is one sentence that says what to do; ``cause`` is the same
    for translators, None where there is only the sentence."""

    def __init__(self, why: Cause | str) -> None:
        super().__init__(str(why))
        self.cause = why if isinstance(why, Cause) else None


# --- state and facts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. ``accepted_failures``: failed frames that a person has seen and resumed over, None when nobody has."""

    share: float
    gate: str = "committed"
    opened_at: datetime | None = None
    completed_at: datetime | None = None
    accepted_failures: int | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """What ``decide`` needs to know of a rollout. Stages are numbered from 1."""

    stages: tuple[Stage, ...]
    state: RolloutState = RolloutState.RUNNING
    failure_limit: float = FAILURE_LIMIT

    @property
    def current_stage(self) -> int:
        """Number of the newest open stage, 0 before the first."""
        return max((number for number, stage in enumerate(self.stages, 1) if stage.opened_at is not None), default=0)


@dataclass(frozen=True, slots=True)
class StageFacts:
    """Deployments of one stage by state, as of now. Frames of later stages are not in it."""

    counts: Mapping[DeploymentState, int]

    @property
    def frames(self) -> int:
        """All frames of the stage."""
        return sum(self.counts.values())

    @property
    def settled(self) -> int:
        """Frames the stage need not wait for any longer."""
        return sum(self.counts.get(state, 0) for state in SETTLED)

    @property
    def complete(self) -> bool:
        """Whether the stage waits for nobody."""
        return self.settled == self.frames

    @property
    def failed(self) -> int:
        """Frames that failed or went back."""
        return sum(self.counts.get(state, 0) for state in FAILURES)

    @property
    def committed(self) -> int:
        """Frames that run the release for good."""
        return self.counts.get(DeploymentState.COMMITTED, 0)


Facts = Mapping[int, StageFacts]
"""Stage number -> its facts."""

NOTHING = StageFacts({})

Gate = Callable[[Rollout, int, Facts, datetime], bool]
"""Whether the stage after ``number`` may open, given that ``number`` is complete."""


def _always(_rollout: Rollout, _number: int, _facts: Facts, _now: datetime) -> bool:
    return True


GATES: dict[str, Gate] = {"committed": _always}


# --- the machine ------------------------------------------------------------------------------------------------------


def tolerated(frames: int, limit: float) -> int:
    """How many of a stage's ``frames`` may fail before the rollout pauses itself."""
    return max(TOLERATED_FAILURES, int(limit * frames))


def decide(rollout: Rollout, facts: Facts, now: datetime) -> list[Action]:
    """What the engine does now; empty when there is nothing to do or the rollout does not run."""
    if rollout.state is not RolloutState.RUNNING:
        return []
    current = rollout.current_stage
    if current == 0:
        return [OpenStage(1)]
    opened = list(enumerate(rollout.stages[:current], start=1))
    # A person may have advanced over a stage that still waits; trouble in any open stage counts.
    for number, stage in opened:
        if (cause := _trouble(number, stage, facts.get(number, NOTHING), rollout.failure_limit)) is not None:
            return [Pause(str(cause), cause)]
    waiting = [number for number, stage in opened if stage.completed_at is None]
    settled = [number for number in waiting if facts.get(number, NOTHING).complete]
    actions: list[Action] = [CompleteStage(number) for number in settled]
    if settled != waiting or not GATES[rollout.stages[current - 1].gate](rollout, current, facts, now):
        return actions
    return [*actions, OpenStage(current + 1) if current < len(rollout.stages) else Succeed()]


def _trouble(number: int, stage: Stage, facts: StageFacts, limit: float) -> Cause | None:
    """Why the rollout must pause because of this stage; None when it need not."""
    fresh = facts.failed - (stage.accepted_failures or 0)
    allowed = tolerated(facts.frames, limit)
    if fresh > allowed:
        figures = {"stage": number, "failed": facts.failed, "frames": facts.frames, "allowed": allowed}
        return Cause(Code.TOO_MANY_FAILED, figures)
    # A person who resumed over a stage without success has decided that this is how it is.
    unsuccessful = facts.frames > 0 and facts.complete and facts.committed == 0
    if unsuccessful and stage.completed_at is None and (stage.accepted_failures is None or fresh > 0):
        return Cause(Code.NONE_COMMITTED, {"stage": number, "frames": facts.frames})
    return None


def command(rollout: Rollout, kind: Command, facts: Facts, reason: str) -> list[Action]:
    """What a person's command does. Raises NotAllowed when the state has no such transition."""
    wanted = COMMANDS[kind]
    if (rollout.state, wanted) not in TRANSITIONS:
        raise NotAllowed(_not_allowed(rollout.state, kind))
    current = rollout.current_stage
    if kind is Command.ADVANCE:
        if current >= len(rollout.stages):
            raise NotAllowed(Cause(Code.LAST_STAGE, {"stage": current}))
        return [OpenStage(current + 1)]
    if kind is Command.RESUME:
        accepted = tuple((number, facts.get(number, NOTHING).failed) for number in range(1, current + 1))
        return [Resume(accepted)]
    if kind is Command.APPROVE:
        return [Approve()]
    if kind is Command.PAUSE:
        return [Pause(reason)]
    return [Abort() if kind is Command.ABORT else RollBack()]


def _not_allowed(state: RolloutState, kind: Command) -> Cause:
    possible = [other.value for other, action in COMMANDS.items() if (state, action) in TRANSITIONS]
    said = {"state": state.value.replace("_", " "), "command": kind.value}
    if not possible:
        return Cause(Code.NOTHING_POSSIBLE, said)
    return Cause(Code.NOT_POSSIBLE, said | {"possible": ", ".join(possible)})


def apply(rollout: Rollout, action: Action, now: datetime) -> Rollout:
    """The rollout after ``action``. Raises NotAllowed when the table does not hold it."""
    to = TRANSITIONS.get((rollout.state, type(action)))
    if to is None:
        raise NotAllowed(f"A rollout that is {rollout.state.value} cannot take {type(action).__name__}.")
    stages = list(rollout.stages)
    match action:
        case OpenStage(number):
            stages[number - 1] = replace(stages[number - 1], opened_at=now)
        case CompleteStage(number):
            stages[number - 1] = replace(stages[number - 1], completed_at=now)
        case Resume(accepted):
            for number, failures in accepted:
                stages[number - 1] = replace(stages[number - 1], accepted_failures=failures)
        case _:
            pass
    return replace(rollout, state=to, stages=tuple(stages))
