"""Changing a draft before anybody starts it."""

import datetime as dt

from django.db import transaction

from fleet import clock
from fleet.models import FrameGroup
from ota.domain.causes import Cause, Code
from ota.domain.plan import Plan, PlanRefused, check, kept
from ota.domain.rollout import NotAllowed, RolloutState
from ota.models import Release, Rollout, RolloutStage
from ota.services.effects import note
from ota.services.rollouts import Stale


@transaction.atomic
def change(
    rollout_id: int,
    seen_state: str,
    actor: str,
    reason: str,
    now: dt.datetime | None = None,
    *,
    release: Release | None = None,
    group: FrameGroup | None = None,
    plan: Plan | None = None,
    base_model: bool | None = None,
) -> Rollout:
    """Change what is given of a draft; None leaves it. Returns it.

    Raises Rollout.DoesNotExist, Stale when somebody has changed or started it since ``seen_state``, NotAllowed when it
    is no draft or the plan makes no sense.
    """
    now = now or clock.now()
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release", "group").get(pk=rollout_id)
    if seen_state != str(rollout.revision):
        raise Stale(f"Rollout {rollout_id} has moved on since you looked: look again, then repeat the change.")
    if rollout.state != RolloutState.DRAFT:
        raise NotAllowed(Cause(Code.NOTHING_POSSIBLE, {"state": rollout.state.replace("_", " "), "command": "change"}))
    if release is not None:
        rollout.release = release
    if group is not None:
        rollout.group = group
    if base_model is not None:
        rollout.base_model = base_model
    if plan is not None:
        _replan(rollout, plan, now)
    rollout.revision += 1
    rollout.save(update_fields=["release", "group", "base_model", "plan", "priority", "end_at", "revision"])
    shares = [stage.share for stage in rollout.stages.order_by("number")]
    note(rollout, "changed", actor, reason, {"stages": shares, "base_model": rollout.base_model}, now)
    return rollout


def _replan(rollout: Rollout, plan: Plan, now: dt.datetime) -> None:
    try:
        check(plan, now)
    except PlanRefused as refused:
        raise NotAllowed(refused.cause) from None
    rollout.plan, rollout.priority, rollout.end_at = kept(plan), plan.priority, plan.end_at
    rollout.stages.all().delete()
    RolloutStage.objects.bulk_create(
        RolloutStage(rollout=rollout, number=number, share=step.share, gate=step.gate, dwell_h=step.dwell_h)
        for number, step in enumerate(plan.steps(), start=1)
    )
