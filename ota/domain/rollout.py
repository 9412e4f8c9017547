"""The rollout's state machine, pure: facts and time in, actions out.

Two ways in, one table. ``decide`` is the engine's: called at every tick, it begins, opens stages, completes them,
pauses, rolls back and ends the rollout. ``command`` is a person's. Both return actions; ``apply`` carries one action
over to the state and refuses what ``TRANSITIONS`` does not hold; ``replay`` does so with all that ever happened.
Whoever calls carries out what an action means for frames.

A stage is complete when every Deployment in it is settled (committed, failed, reverted or dark). Whether the next one
then opens is its gate's business (``ota.domain.gates``). The guardrails are not a gate: while a rollout runs or is
paused, a verdict ROLLBACK rolls it back, or pauses it where the plan says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from ota.domain.actions import (
    Abort,
    Action,
    Approve,
    Begin,
    CompleteStage,
    Finish,
    OpenStage,
    Pause,
    Propose,
    Resume,
    RollBack,
    Schedule,
    Succeed,
)
from ota.domain.analysis.verdict import Decision
from ota.domain.causes import Cause, Code
from ota.domain.gates import Facts, LookFacts, StageFacts, waits_for
from ota.domain.plan import GateKind, Plan

FAILURE_LIMIT = 0.05
"""Share of a stage's frames that may fail or revert before the rollout pauses itself."""
TOLERATED_FAILURES = 1
"""Frames that may fail in any stage, however small: one broken frame on a wall is no verdict on a release."""


class RolloutState(StrEnum):
    """Where a rollout stands."""

    DRAFT = "draft"
    """Somebody is still thinking; nothing is offered and no frame is held."""
    PROPOSED = "proposed"
    """Waits for a second person's approval; nothing is offered."""
    SCHEDULED = "scheduled"
    """Waits for its hour."""
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling_back"
    """Updated frames have been told to return, and not all of them have."""
    ROLLED_BACK = "rolled_back"


UNDER_WAY = frozenset({RolloutState.PROPOSED, RolloutState.SCHEDULED, RolloutState.RUNNING, RolloutState.PAUSED})
"""Its frames are its own."""
TICKED = frozenset(
    {
        RolloutState.SCHEDULED,
        RolloutState.RUNNING,
        RolloutState.PAUSED,
        RolloutState.SUCCEEDED,
        RolloutState.ABORTED,
        RolloutState.ROLLING_BACK,
    }
)
"""The engine has something to do or to watch; of those that succeeded or were aborted, the ones with an end."""
ENDED = frozenset({RolloutState.SUCCEEDED, RolloutState.ABORTED, RolloutState.ROLLED_BACK})


class Command(StrEnum):
    """What a person can ask for."""

    START = "start"
    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    ADVANCE = "advance"
    ABORT = "abort"
    ROLLBACK = "rollback"


_R = RolloutState

TRANSITIONS: dict[tuple[RolloutState, type[Action]], RolloutState] = {
    (_R.DRAFT, Propose): _R.PROPOSED,
    (_R.DRAFT, Schedule): _R.SCHEDULED,
    (_R.DRAFT, Begin): _R.RUNNING,
    (_R.DRAFT, Abort): _R.ABORTED,
    (_R.PROPOSED, Approve): _R.SCHEDULED,
    (_R.PROPOSED, Abort): _R.ABORTED,
    (_R.SCHEDULED, Begin): _R.RUNNING,
    (_R.SCHEDULED, Abort): _R.ABORTED,
    (_R.RUNNING, OpenStage): _R.RUNNING,
    (_R.RUNNING, CompleteStage): _R.RUNNING,
    (_R.RUNNING, Pause): _R.PAUSED,
    (_R.RUNNING, Succeed): _R.SUCCEEDED,
    (_R.RUNNING, Abort): _R.ABORTED,
    (_R.RUNNING, RollBack): _R.ROLLING_BACK,
    (_R.PAUSED, Resume): _R.RUNNING,
    (_R.PAUSED, Abort): _R.ABORTED,
    (_R.PAUSED, RollBack): _R.ROLLING_BACK,
    # What went out can be taken back afterwards too.
    (_R.SUCCEEDED, RollBack): _R.ROLLING_BACK,
    (_R.ABORTED, RollBack): _R.ROLLING_BACK,
    (_R.ROLLING_BACK, Finish): _R.ROLLED_BACK,
}

COMMANDS: dict[Command, type[Action]] = {
    Command.START: Begin,
    Command.APPROVE: Approve,
    Command.PAUSE: Pause,
    Command.RESUME: Resume,
    Command.ADVANCE: OpenStage,
    Command.ABORT: Abort,
    Command.ROLLBACK: RollBack,
}
NOT_BY_HAND = frozenset({(_R.SCHEDULED, Begin)})
"""In the table for the engine alone: a rollout that is scheduled begins at its hour."""


class NotAllowed(Exception):
    """The rollout's state does not allow this. The message is one sentence that says what to do; ``cause`` is the same
    for translators, None where there is only the sentence."""

    def __init__(self, why: Cause | str) -> None:
        super().__init__(str(why))
        self.cause = why if isinstance(why, Cause) else None


# --- state ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. ``accepted_failures``: failed frames that a person has seen and resumed over, None when nobody has."""

    share: float
    gate: GateKind = GateKind.COMMITTED
    dwell_h: float = 0.0
    opened_at: datetime | None = None
    completed_at: datetime | None = None
    accepted_failures: int | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """What ``decide`` needs to know of a rollout. Stages are numbered from 1; ``overruled`` is the stage whose verdict
    a person has resumed over, ``benefit`` the metric that must be shown to be better."""

    stages: tuple[Stage, ...]
    state: RolloutState = RolloutState.RUNNING
    failure_limit: float = FAILURE_LIMIT
    start_at: datetime | None = None
    end_at: datetime | None = None
    guardrails: bool = True
    emergency: bool = False
    benefit: str | None = None
    overruled: int = 0

    @property
    def current_stage(self) -> int:
        """Number of the newest open stage, 0 before the first."""
        return max((number for number, stage in enumerate(self.stages, 1) if stage.opened_at is not None), default=0)


def planned(plan: Plan, failure_limit: float = FAILURE_LIMIT) -> Rollout:
    """A draft of this plan."""
    return Rollout(
        tuple(Stage(step.share, step.gate, step.dwell_h) for step in plan.steps()),
        RolloutState.DRAFT,
        failure_limit,
        plan.start_at,
        plan.end_at,
        plan.guardrails,
        plan.emergency,
        plan.benefit.metric if plan.benefit is not None else None,
    )


# --- the machine ------------------------------------------------------------------------------------------------------


def start(rollout: Rollout, now: datetime, *, two_person: bool) -> list[Action]:
    """What becomes of a draft: a proposal, a scheduled rollout, or one that runs."""
    if two_person or rollout.emergency:
        return [Propose()]
    return [Schedule()] if rollout.start_at is not None and rollout.start_at > now else [Begin()]


def tolerated(frames: int, limit: float) -> int:
    """How many of a stage's ``frames`` may fail before the rollout pauses itself."""
    return max(TOLERATED_FAILURES, int(limit * frames))


def decide(rollout: Rollout, facts: Facts, now: datetime) -> list[Action]:
    """What the engine does now; empty when there is nothing to do."""
    match rollout.state:
        case RolloutState.SCHEDULED:
            return [Begin()] if rollout.start_at is None or rollout.start_at <= now else []
        case RolloutState.ROLLING_BACK:
            return [Finish()] if facts.returning == 0 else []
        case RolloutState.RUNNING | RolloutState.PAUSED | RolloutState.SUCCEEDED:
            if _season_is_over(rollout, now):
                return [RollBack(Cause(Code.SEASON_OVER))]
            harm = _harm(rollout, facts)
            if harm is not None and rollout.state is not RolloutState.SUCCEEDED:
                return harm
            return _go_on(rollout, facts, now) if rollout.state is RolloutState.RUNNING else []
        case RolloutState.ABORTED:
            # Frames that had committed kept the release, for the season and no longer.
            offered = rollout.current_stage > 0
            return [RollBack(Cause(Code.SEASON_OVER))] if offered and _season_is_over(rollout, now) else []
        case _:
            return []


def _season_is_over(rollout: Rollout, now: datetime) -> bool:
    return rollout.end_at is not None and rollout.end_at <= now


def _harm(rollout: Rollout, facts: Facts) -> list[Action] | None:
    """The guardrails: what a verdict ROLLBACK asks for, None when there is none that counts."""
    look = facts.look
    if look is None or look.decision is not Decision.ROLLBACK or look.stage <= rollout.overruled:
        return None
    cause = _harm_in(look)
    if rollout.guardrails:
        return [RollBack(cause, look.number)]
    return [Pause(str(cause), cause, look.number)] if rollout.state is RolloutState.RUNNING else None


def _harm_in(look: LookFacts) -> Cause:
    metric = look.metrics[0] if look.metrics else look.reason
    evidence, needed = f"{look.evidence:.3g}", f"{look.needed:.3g}"
    return Cause(Code.HARM, {"stage": look.stage, "metric": metric, "evidence": evidence, "needed": needed})


def _go_on(rollout: Rollout, facts: Facts, now: datetime) -> list[Action]:
    current = rollout.current_stage
    held = facts.frozen is not None and not rollout.emergency
    if current == 0:
        return [] if held else [OpenStage(1)]
    opened = list(enumerate(rollout.stages[:current], start=1))
    # A person may have advanced over a stage that still waits; trouble in any open stage counts.
    for number, stage in opened:
        if (cause := _trouble(number, stage, facts.of(number), rollout.failure_limit)) is not None:
            return [Pause(str(cause), cause)]
    actions: list[Action] = [
        CompleteStage(number) for number, stage in opened if stage.completed_at is None and facts.of(number).complete
    ]
    complete = all(stage.completed_at is not None or facts.of(number).complete for number, stage in opened)
    # Evidence speaks for the stage's frames as they are, stragglers included; nothing else may leave any behind.
    by_evidence = rollout.stages[current - 1].gate is GateKind.EVIDENCE and current < len(rollout.stages)
    if held or not (complete or by_evidence) or waits_for(rollout, facts, now) is not None:
        return actions
    look = facts.look_at(current)
    following = OpenStage(current + 1, look.number if by_evidence and look is not None else None)
    return [*actions, following if current < len(rollout.stages) else Succeed()]


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
    if not _by_hand(rollout.state, wanted):
        raise NotAllowed(_not_allowed(rollout.state, kind))
    current = rollout.current_stage
    match kind:
        case Command.ADVANCE if current >= len(rollout.stages):
            raise NotAllowed(Cause(Code.LAST_STAGE, {"stage": current}))
        case Command.ADVANCE:
            return [OpenStage(current + 1)]
        case Command.RESUME:
            accepted = tuple((number, facts.of(number).failed) for number in range(1, current + 1))
            look = facts.look
            # Where guardrails roll back by themselves, a verdict that came just before this was seen by nobody.
            seen = look is not None and look.decision is Decision.ROLLBACK and not rollout.guardrails
            return [Resume(accepted, max(look.stage if look is not None and seen else 0, rollout.overruled))]
        case Command.PAUSE:
            return [Pause(reason)]
        case Command.START:
            return [Begin()]
        case Command.APPROVE:
            return [Approve()]
        case Command.ABORT:
            return [Abort()]
        case Command.ROLLBACK:
            return [RollBack()]


def _by_hand(state: RolloutState, action: type[Action]) -> bool:
    return (state, action) in TRANSITIONS and (state, action) not in NOT_BY_HAND


def _not_allowed(state: RolloutState, kind: Command) -> Cause:
    possible = [other.value for other, action in COMMANDS.items() if _by_hand(state, action)]
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
    overruled = rollout.overruled
    match action:
        case OpenStage(number):
            stages[number - 1] = replace(stages[number - 1], opened_at=now)
        case CompleteStage(number):
            stages[number - 1] = replace(stages[number - 1], completed_at=now)
        case Resume(accepted, overruled):
            for number, failures in accepted:
                stages[number - 1] = replace(stages[number - 1], accepted_failures=failures)
        case _:
            pass
    return replace(rollout, state=to, stages=tuple(stages), overruled=overruled)


def replay(rollout: Rollout, happened: Iterable[tuple[Action, datetime]]) -> Rollout:
    """The state that these actions at these times lead to from a draft. Raises NotAllowed."""
    for action, at in happened:
        rollout = apply(rollout, action, at)
    return rollout
