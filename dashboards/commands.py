"""What a person can ask of a rollout: which commands its state allows, how many frames each touches, and the words."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from dashboards.selectors_rollout import Returns
from dashboards.words import COMMAND, Words
from fleet.permissions import Action
from ota.domain.rollout import COMMANDS, NOT_BY_HAND, TRANSITIONS, Command, RolloutState
from ota.selectors import RolloutSummary


@dataclass(frozen=True)
class Act:
    """Something that a person can do, as a page offers it. ``effect`` is one sentence that says what it touches."""

    kind: str
    word: Words
    icon: str
    tone: str
    effect: str


OFFERING = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})

LOOKS: dict[Command, tuple[Words, str, str]] = {
    Command.START: (COMMAND["start"], "play", ""),
    Command.APPROVE: (COMMAND["approve"], "check", ""),
    Command.PAUSE: (COMMAND["pause"], "pause", ""),
    Command.RESUME: (COMMAND["resume"], "play", ""),
    Command.ADVANCE: (COMMAND["advance"], "forward", ""),
    Command.ABORT: (COMMAND["abort"], "stop", "danger"),
    Command.ROLLBACK: (COMMAND["rollback"], "undo", "danger"),
}
ACTIONS = {Command.START: Action.START_ROLLOUT, Command.APPROVE: Action.APPROVE_ROLLOUT}


def choices(rollout: RolloutSummary, returns: Returns) -> list[Act]:
    """The commands that the rollout's state allows now, mildest first."""
    return [choice(rollout, returns, kind) for kind in LOOKS if allowed(rollout, kind)]


def action(kind: Command) -> Action:
    """What the person must be allowed to do."""
    return ACTIONS.get(kind, Action.STEER_ROLLOUT)


def allowed(rollout: RolloutSummary, kind: Command) -> bool:
    move = (RolloutState(rollout.state), COMMANDS[kind])
    if move not in TRANSITIONS or move in NOT_BY_HAND:
        return False
    return kind is not Command.ADVANCE or rollout.current_stage < len(rollout.stages)


def choice(rollout: RolloutSummary, returns: Returns, kind: Command) -> Act:
    word, icon, tone = LOOKS[kind]
    return Act(kind, word, icon, tone, _effect(rollout, returns, kind))


def _start(returns: Returns) -> str:
    return ngettext(
        "Begins at the plan's hour, after a second person's approval where that is asked for: the rollout takes the "
        "{frames} frame of the group, and its first stage is offered the release.",
        "Begins at the plan's hour, after a second person's approval where that is asked for: the rollout takes the "
        "{frames} frames of the group, and its first stage is offered the release.",
        returns.group,
    ).format(frames=returns.group)


def _approve(rollout: RolloutSummary) -> str:
    frames = rollout.stages[0].frames
    return ngettext(
        "Lets the rollout begin: its first stage is offered to {frames} frame.",
        "Lets the rollout begin: its first stage is offered to {frames} frames.",
        frames,
    ).format(frames=frames)


def _pause(rollout: RolloutSummary) -> str:
    frames = rollout.in_flight
    return ngettext(
        "No further stage opens. {frames} frame in flight finishes what it has begun.",
        "No further stage opens. {frames} frames in flight finish what they have begun.",
        frames,
    ).format(frames=frames)


def _resume(rollout: RolloutSummary) -> str:
    frames = sum(stage.frames for stage in rollout.stages if stage.opened_at is None)
    return ngettext(
        "Stages open again as the ones before them commit: {frames} frame has not had its turn yet.",
        "Stages open again as the ones before them commit: {frames} frames have not had their turn yet.",
        frames,
    ).format(frames=frames)


def _advance(rollout: RolloutSummary) -> str:
    stage = rollout.stages[rollout.current_stage] if rollout.current_stage < len(rollout.stages) else None
    if stage is None:
        return _("There is no further stage.")
    return ngettext(
        "Opens stage {number} now, without waiting for the one before: {frames} frame is offered the release.",
        "Opens stage {number} now, without waiting for the one before: {frames} frames are offered the release.",
        stage.frames,
    ).format(number=stage.number, frames=stage.frames)


def _abort(rollout: RolloutSummary, returns: Returns) -> str:
    touched = ngettext(
        "Stops offering: {frames} frame that has not committed keeps what it had.",
        "Stops offering: {frames} frames that have not committed keep what they had.",
        returns.abort,
    ).format(frames=returns.abort)
    if not rollout.committed:
        return touched
    kept = ngettext(
        "{frames} updated frame stays updated.", "{frames} updated frames stay updated.", rollout.committed
    ).format(frames=rollout.committed)
    return _("{touched} {kept}").format(touched=touched, kept=kept)


def _rollback(rollout: RolloutSummary, returns: Returns) -> str:
    if rollout.state in OFFERING:
        touched = ngettext(
            "Stops offering and returns {frames} frame to the release it had.",
            "Stops offering and returns {frames} frames to the release they had.",
            returns.rollback,
        )
    else:
        touched = ngettext(
            "Returns {frames} frame to the release it had.",
            "Returns {frames} frames to the release they had.",
            returns.rollback,
        )
    touched = touched.format(frames=returns.rollback)
    if not returns.stay:
        return touched
    kept = ngettext(
        "{frames} updated frame stays: it had no release before.",
        "{frames} updated frames stay: they had no release before.",
        returns.stay,
    ).format(frames=returns.stay)
    return _("{touched} {kept}").format(touched=touched, kept=kept)


def _effect(rollout: RolloutSummary, returns: Returns, kind: Command) -> str:
    match kind:
        case Command.START:
            return _start(returns)
        case Command.APPROVE:
            return _approve(rollout)
        case Command.PAUSE:
            return _pause(rollout)
        case Command.RESUME:
            return _resume(rollout)
        case Command.ADVANCE:
            return _advance(rollout)
        case Command.ABORT:
            return _abort(rollout, returns)
        case Command.ROLLBACK:
            return _rollback(rollout, returns)
