"""Carrying an action out: on frames, on the rollout's rows, in its trail. Callers hold the rollout's row locked."""

import datetime as dt

from django.utils import timezone

from fleet.models import AuditEntry
from ota.domain import actions
from ota.domain import rollout as domain
from ota.domain.actions import Action
from ota.domain.deployment import DeploymentState
from ota.domain.gates import Facts
from ota.domain.rollout import ENDED, RolloutState
from ota.models import Look, Rollout, RolloutEvent
from ota.services import membership, returns, webhooks
from ota.services.facts import plan_of

ENGINE = "engine"
"""The actor of everything nobody asked for."""

Figures = dict[str, object]


def perform(
    rollout: Rollout, before: domain.Rollout, action: Action, facts: Facts, actor: str, reason: str, now: dt.datetime
) -> domain.Rollout:
    """Carry one action out. Returns the rollout's state after it. Raises NotAllowed when the table has no such move."""
    after = domain.apply(before, action, now)
    kind, figures = _effect(rollout, after, action, facts, now)
    for number, (old, new) in enumerate(zip(before.stages, after.stages, strict=True), start=1):
        if old != new:
            rollout.stages.filter(number=number).update(
                opened_at=new.opened_at, completed_at=new.completed_at, accepted_failures=new.accepted_failures
            )
    cause = getattr(action, "cause", None)
    reason = action.reason if isinstance(action, actions.Pause) else reason or (str(cause) if cause else "")
    if after.state is not before.state:
        quiet = (RolloutState.RUNNING, RolloutState.SUCCEEDED, RolloutState.SCHEDULED, RolloutState.ROLLED_BACK)
        if after.state is not RolloutState.ROLLED_BACK:  # it keeps why it was rolled back
            rollout.reason = "" if after.state in quiet else reason[:500]
        rollout.ended_at = now if after.state in ENDED else None
    if isinstance(action, actions.Begin):
        rollout.began_at = now
    rollout.state = after.state.value
    rollout.current_stage = after.current_stage
    rollout.overruled = after.overruled
    rollout.revision += 1
    rollout.save(update_fields=["state", "reason", "revision", "current_stage", "ended_at", "began_at", "overruled"])
    if kind == "stage_opened" and actor != ENGINE:
        kind = "advanced"
    look = getattr(action, "look", None)
    detail: Figures = {**figures, "action": actions.as_detail(action)}
    if cause is not None:
        detail["cause"] = cause.as_detail()
    if look is not None:
        detail["look"] = _verdict(look)
    note(rollout, kind, actor, reason, detail, now)
    return after


def note(rollout: Rollout, kind: str, actor: str, reason: str, detail: Figures, now: dt.datetime) -> RolloutEvent:
    """Append to the rollout's trail, for webhooks, and to the audit log, which keeps real time. Returns the event."""
    event = RolloutEvent.objects.create(
        rollout=rollout, at=now, actor=actor, kind=kind, reason=reason[:500], detail=detail
    )
    webhooks.enqueue(event)
    AuditEntry.objects.create(
        at=timezone.now(),
        actor=actor,
        action=f"rollout.{kind}",
        subject=f"rollout {rollout.pk}: {rollout}"[:200],
        detail={**{name: value for name, value in detail.items() if name != "look"}, "reason": reason[:500]},
    )
    return event


def _effect(
    rollout: Rollout, after: domain.Rollout, action: Action, facts: Facts, now: dt.datetime
) -> tuple[str, Figures]:
    """What the action does to frames: kind of the event, and its figures."""
    match action:
        case actions.Propose():
            return "proposed", _begun(rollout)
        case actions.Approve():
            return "approved", {"frames": rollout.deployments.count()}
        case actions.Schedule():
            return "scheduled", _begun(rollout) | {"start_at": after.start_at.isoformat() if after.start_at else None}
        case actions.Begin():
            return "started", _begun(rollout)
        case actions.OpenStage(number):
            membership.enlist(rollout, plan_of(rollout), now)
            frames = membership.waiting(rollout, number).count()
            return "stage_opened", {"stage": number, "frames": frames, "share": after.stages[number - 1].share}
        case actions.CompleteStage(number):
            here = facts.of(number)
            return "stage_completed", {
                "stage": number,
                "frames": here.frames,
                "committed": here.committed,
                "failed": here.failed,
            }
        case actions.Pause():
            return "paused", {}
        case actions.Resume(accepted):
            return "resumed", {"accepted_failures": sum(failures for _, failures in accepted)}
        case actions.Succeed():
            return "succeeded", {"frames": _count(rollout, DeploymentState.COMMITTED)}
        case actions.Abort():
            return "aborted", {"frames": returns.withdraw(rollout, now)}
        case actions.RollBack():
            frames, unknown = returns.send_back(rollout, now)
            return "rolling_back", {"frames": frames, "without_former_release": unknown}
        case actions.Finish():
            back, silent = (
                _count(rollout, DeploymentState.RETURNED),
                _count(rollout, DeploymentState.RETURNING, reason=""),
            )
            return "rolled_back", {"frames": back, "silent": silent}


def _begun(rollout: Rollout) -> Figures:
    return {
        "frames": rollout.deployments.count(),
        "stages": plan_of(rollout).shares(),
        "base_model": rollout.base_model,
    }


def _count(rollout: Rollout, state: DeploymentState, **also: str) -> int:
    return rollout.deployments.filter(state=state, **also).count()


def _verdict(number: int) -> Figures:
    """The look behind a decision, whole: the trail outlives the looks."""
    look = Look.objects.filter(pk=number).values("id", "stage", "decision", "reason", "metrics", "evidence").first()
    return dict(look) if look is not None else {}
