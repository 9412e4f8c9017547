"""Rollouts: starting them, a person's commands, and the tick that wakes the engine.

Every change locks the rollout's row, reads the facts, asks the pure ``ota.domain.rollout`` and carries its actions
out, all in one transaction. So any number of ticks and commands at once do what they would do one after the other.
"""

import datetime as dt
import logging
from collections.abc import Sequence

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Count
from django.utils import timezone

from fleet.groups import frames_in
from fleet.models import AuditEntry, FrameGroup
from ota.domain import rollout as domain
from ota.domain.assignment import check_shares
from ota.domain.causes import Cause, Code
from ota.domain.deployment import DeploymentState
from ota.domain.rollout import Action, Command, NotAllowed, RolloutState, StageFacts
from ota.locks import Lock, hold
from ota.models import Release, Rollout, RolloutEvent, RolloutStage
from ota.services import deployments, offers, transfer
from protocol.errors import Refused

__all__ = ["ENGINE", "NotAllowed", "Stale", "command", "start", "tick", "tick_all"]

log = logging.getLogger(__name__)

ENGINE = "engine"
"""The actor of everything nobody asked for."""
ENDED = frozenset({RolloutState.SUCCEEDED, RolloutState.ABORTED, RolloutState.ROLLED_BACK})


class Stale(Exception):
    """The rollout has moved on since the caller looked. The message is one sentence."""


@transaction.atomic
def start(
    release: Release,
    group: FrameGroup,
    stages: Sequence[float],
    actor: str,
    reason: str,
    now: dt.datetime | None = None,
    *,
    base_model: bool = False,
) -> Rollout:
    """Begin to take ``release`` to ``group``; ``stages`` are ascending shares (0 to 1). The next tick opens the first,
    unless two-person approval is on: then somebody else approves it before.

    ``base_model`` lets frames that lack the release's base model fetch it; without, they refuse the release.

    Raises NotAllowed with one sentence when the group is empty or overlaps a rollout that is under way, when the
    stages make no sense or hold no frame, or when most frames would refuse the release for want of its base model.
    """
    now = now or timezone.now()
    try:
        check_shares(stages)
    except ValueError as error:
        raise NotAllowed(str(error)) from None
    hold(Lock.ROLLOUTS)
    frames = frames_in(group)
    if not frames.exists():
        raise NotAllowed(f"The group {group.name} has no frames: enrol some, or choose another group.")
    taken = offers.busy_with(frames).select_related("rollout__release").order_by("-rollout_id").first()
    if taken is not None:
        raise NotAllowed(
            f"Rollout {taken.rollout_id} ({taken.rollout.release}) is under way on frames of the group {group.name}, "
            f"such as {taken.frame_id}: wait for its end, or abort it."
        )
    if not base_model:
        _check_base_model(release, group)
    rollout = Rollout.objects.create(
        release=release,
        group=group,
        base_model=base_model,
        salt=offers.draw_salt(group, stages),
        state=RolloutState.PROPOSED if settings.FRAMEFLEET_TWO_PERSON else RolloutState.RUNNING,
        created_by=actor,
        created_at=now,
    )
    RolloutStage.objects.bulk_create(
        RolloutStage(rollout=rollout, number=number, share=share) for number, share in enumerate(stages, start=1)
    )
    offers.enlist(rollout, stages)
    if not rollout.deployments.filter(stage__isnull=False).exists():
        raise NotAllowed(
            f"No frame of the group {group.name} falls into a stage: it has {frames.count()}, so give larger shares."
        )
    detail = {"frames": rollout.deployments.count(), "stages": list(stages), "base_model": base_model}
    _note(rollout, "proposed" if rollout.state == RolloutState.PROPOSED else "started", actor, reason, detail, now)
    return rollout


def _check_base_model(release: Release, group: FrameGroup) -> None:
    lacking = transfer.lacking(release, frames_in(group))
    if lacking is not None and 2 * lacking.count > lacking.frames:
        raise NotAllowed(
            f"{lacking.count} of {lacking.frames} frames of the group {group.name} lack {lacking.path} "
            f"({lacking.artifact.length / 1e6:.1f} MB): allow them to fetch this base model (framectl rollout start "
            "--with-base-model), or release to frames that have it."
        )


@transaction.atomic
def command(
    rollout_id: int, kind: str, seen_state: str, actor: str, reason: str, now: dt.datetime | None = None
) -> Rollout:
    """Do what a person asks for; ``kind`` is a ``Command``, ``seen_state`` the RolloutDetail's they were looking at.

    Raises Stale when the rollout has moved on since, NotAllowed when its state does not allow the command,
    Rollout.DoesNotExist, ValueError for an unknown ``kind``.
    """
    now = now or timezone.now()
    wanted = Command(kind)
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group").get(pk=rollout_id)
    if seen_state != str(rollout.revision):
        raise Stale(f"Rollout {rollout_id} has moved on since you looked: look again, then repeat the command.")
    if wanted is Command.APPROVE and rollout.created_by == actor:
        raise NotAllowed(Cause(Code.OWN_PROPOSAL))
    deployments.catch_up(rollout, now)
    state = _state(rollout)
    try:
        for action in domain.command(state, wanted, _facts(rollout), reason):
            state = _perform(rollout, state, action, actor, reason, now)
    except Refused as refused:
        raise NotAllowed(_group_sentence(rollout, refused)) from None
    return rollout


def tick(rollout_id: int, now: dt.datetime | None = None) -> bool:
    """Let the engine decide. Returns whether anything happened; a rollout that somebody holds is left to them."""
    now = now or timezone.now()
    with transaction.atomic():
        rows = Rollout.objects.select_for_update(skip_locked=True, of=("self",)).select_related("release", "group")
        rollout = rows.filter(pk=rollout_id, state=RolloutState.RUNNING).first()
        if rollout is None:
            return False
        deployments.catch_up(rollout, now)
        deployments.mark_dark(rollout, now)
        state = _state(rollout)
        actions = domain.decide(state, _facts(rollout), now)
        for action in actions:
            state = _perform(rollout, state, action, ENGINE, "", now)
    return bool(actions)


def tick_all(now: dt.datetime | None = None) -> int:
    """Tick every running rollout, each in a transaction of its own. Returns in how many something happened.

    What is wrong with one holds up no other. Raises what the database raises when it is away.
    """
    running = Rollout.objects.filter(state=RolloutState.RUNNING).order_by("pk").values_list("pk", flat=True)
    return sum(_tick_alone(pk, now) for pk in list(running))


def _tick_alone(rollout_id: int, now: dt.datetime | None) -> bool:
    try:
        return tick(rollout_id, now)
    except Refused as refused:
        return _pause(rollout_id, refused, now or timezone.now())
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("Rollout %d cannot be ticked; the others go on", rollout_id)
        return False


@transaction.atomic
def _pause(rollout_id: int, refused: Refused, now: dt.datetime) -> bool:
    """The group cannot be read any more: pause, so that people see why nothing moves."""
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group").get(pk=rollout_id)
    if rollout.state != RolloutState.RUNNING:
        return False
    _perform(rollout, _state(rollout), domain.Pause(_group_sentence(rollout, refused)), ENGINE, "", now)
    return True


def _group_sentence(rollout: Rollout, refused: Refused) -> str:
    said = refused.detail.rstrip(".")
    return f"The query of the group {rollout.group.name} cannot be read ({said}): put it right, then go on."


def _state(rollout: Rollout) -> domain.Rollout:
    stages = tuple(
        domain.Stage(row.share, row.gate, row.opened_at, row.completed_at, row.accepted_failures)
        for row in rollout.stages.order_by("number")
    )
    return domain.Rollout(stages, RolloutState(rollout.state), rollout.failure_limit)


def _facts(rollout: Rollout) -> dict[int, StageFacts]:
    tables: dict[int, dict[DeploymentState, int]] = {}
    rows = rollout.deployments.filter(stage__isnull=False).order_by()
    for stage, state, frames in rows.values_list("stage", "state").annotate(n=Count("id")):
        tables.setdefault(stage or 0, {})[DeploymentState(state)] = frames
    return {stage: StageFacts(counts) for stage, counts in tables.items()}


def _perform(
    rollout: Rollout, before: domain.Rollout, action: Action, actor: str, reason: str, now: dt.datetime
) -> domain.Rollout:
    """Carry one action out: on frames, on the rollout's rows, in its trail. Returns the rollout's state after it."""
    after = domain.apply(before, action, now)
    kind, detail = _effect(rollout, after, action, now)
    for number, (old, new) in enumerate(zip(before.stages, after.stages, strict=True), start=1):
        if old != new:
            rollout.stages.filter(number=number).update(
                opened_at=new.opened_at, completed_at=new.completed_at, accepted_failures=new.accepted_failures
            )
    reason = action.reason if isinstance(action, domain.Pause) else reason
    if after.state is not before.state:
        rollout.reason = "" if after.state in (RolloutState.RUNNING, RolloutState.SUCCEEDED) else reason
        rollout.ended_at = now if after.state in ENDED else None
    rollout.state = after.state.value
    rollout.current_stage = after.current_stage
    rollout.revision += 1
    rollout.save(update_fields=["state", "reason", "revision", "current_stage", "ended_at"])
    if kind == "stage_opened" and actor != ENGINE:
        kind = "advanced"
    _note(rollout, kind, actor, reason, detail, now)
    return after


Effect = tuple[str, dict[str, object]]
"""Kind of the event, and its figures."""


def _effect(rollout: Rollout, after: domain.Rollout, action: Action, now: dt.datetime) -> Effect:
    """What the action does to frames."""
    match action:
        case domain.Approve():
            return "approved", {"frames": rollout.deployments.count()}
        case domain.OpenStage(number):
            offers.enlist(rollout, [stage.share for stage in after.stages])
            frames = offers.offer(rollout, number, now)
            return "stage_opened", {"stage": number, "frames": frames, "share": after.stages[number - 1].share}
        case domain.CompleteStage(number):
            facts = _facts(rollout).get(number, domain.NOTHING)
            figures = {"frames": facts.frames, "committed": facts.committed, "failed": facts.failed}
            return "stage_completed", {"stage": number, **figures}
        case domain.Pause(cause=cause):
            return "paused", {} if cause is None else {"cause": cause.as_detail()}
        case domain.Resume(accepted):
            return "resumed", {"accepted_failures": sum(failures for _, failures in accepted)}
        case domain.Succeed():
            return "succeeded", {"frames": rollout.deployments.filter(state=DeploymentState.COMMITTED).count()}
        case domain.Abort():
            frames, _ = offers.take_back(rollout, now, committed=False)
            return "aborted", {"frames": frames}
        case domain.RollBack():
            frames, unknown = offers.take_back(rollout, now, committed=True)
            return "rolled_back", {"frames": frames, "without_former_release": unknown}


def _note(rollout: Rollout, kind: str, actor: str, reason: str, detail: dict[str, object], now: dt.datetime) -> None:
    RolloutEvent.objects.create(rollout=rollout, at=now, actor=actor, kind=kind, reason=reason[:500], detail=detail)
    AuditEntry.objects.create(
        at=now,
        actor=actor,
        action=f"rollout.{kind}",
        subject=f"rollout {rollout.pk}: {rollout}"[:200],
        detail={**detail, "reason": reason[:500]},
    )
