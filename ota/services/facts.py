"""What the engine knows of a rollout, from the tables: its state and the facts it decides by."""

import datetime as dt
import math
from dataclasses import replace

from django.conf import settings
from django.db.models import Count, Q

from fleet import clock
from fleet.models import Frame
from ota.domain import rollout as domain
from ota.domain.analysis.verdict import Decision
from ota.domain.deployment import DARK_AFTER, FAILURES, STRANDED, DeploymentState
from ota.domain.gates import Facts, LookFacts, StageFacts
from ota.domain.plan import GateKind, Plan, of_shares, read
from ota.models import Look, Rollout
from ota.services import freezes

STALE_LOOKS = 8
"""Looks missed in a row after which the newest one opens no stage."""


def plan_of(rollout: Rollout) -> Plan:
    """The rollout's plan; of one from before there were plans, its stages."""
    return read(rollout.plan) if rollout.plan else of_shares([stage.share for stage in rollout.stages.all()])


def state_of(rollout: Rollout) -> domain.Rollout:
    """The state as the domain wants it."""
    stages = tuple(
        domain.Stage(row.share, GateKind(row.gate), row.dwell_h, row.opened_at, row.completed_at, row.accepted_failures)
        for row in rollout.stages.order_by("number")
    )
    return replace(
        domain.planned(plan_of(rollout), rollout.failure_limit),
        stages=stages,
        state=domain.RolloutState(rollout.state),
        overruled=rollout.overruled,
    )


def facts_of(rollout: Rollout, now: dt.datetime) -> Facts:
    """Counts of its Deployments by stage, the newest look, the freeze, and who is still on the way back."""
    tables: dict[int, dict[DeploymentState, int]] = {}
    rows = rollout.deployments.filter(stage__isnull=False).order_by()
    for stage, state, frames in rows.values_list("stage", "state").annotate(n=Count("id")):
        tables.setdefault(stage or 0, {})[DeploymentState(state)] = frames
    # What is tried again has not failed yet: the stage waits for it.
    for stage, state, frames in (
        rows.filter(_tried_again(plan_of(rollout))).values_list("stage", "state").annotate(n=Count("id"))
    ):
        counts = tables[stage or 0]
        counts[DeploymentState(state)] -= frames
        counts[DeploymentState.PENDING] = counts.get(DeploymentState.PENDING, 0) + frames
    stages = {stage: StageFacts(counts) for stage, counts in tables.items()}
    return Facts(stages, newest_look(rollout, now), frozen_because(), _returning(rollout, now))


def _tried_again(plan: Plan) -> Q:
    found = Q(pk__in=[])
    for reason, tries in plan.retries.items():
        found |= Q(state__in=FAILURES, reason=reason.value, attempts__lte=tries)
    return found & Q(frame__pin=None, frame__lifecycle=Frame.Lifecycle.ACTIVE)


def newest_look(rollout: Rollout, now: dt.datetime) -> LookFacts | None:
    """The newest look at the evidence.

    A look that asked for a rollback goes before all that came after it, until a person has resumed over it: evidence of
    harm once reached counts, whatever later looks make of it.
    """
    looks = Look.objects.filter(rollout=rollout).order_by("-id")
    harmful = looks.filter(decision=Decision.ROLLBACK, stage__gt=rollout.overruled, stage__lte=rollout.current_stage)
    look = harmful.first() or looks.first()
    if look is None:
        return None
    age = clock.really(look.at, now)
    return LookFacts(
        number=look.pk,
        stage=look.stage,
        at=look.at,
        decision=Decision(look.decision),
        reason=look.reason,
        metrics=tuple(look.metrics),
        evidence=math.exp(min(look.log_total, 700.0)) if look.log_total is not None else 0.0,
        needed=math.exp(look.needed),
        benefit=look.benefit,
        stale=age.total_seconds() > STALE_LOOKS * settings.FRAMEFLEET_LOOK_EVERY_S,
    )


def frozen_because() -> str | None:
    """Why nothing may be offered now, None when it may."""
    freeze = freezes.current()
    return None if freeze is None else freeze.reason


def _returning(rollout: Rollout, now: dt.datetime) -> int:
    """Frames that were told to go back and are neither back nor silent; some have nothing to go back to."""
    since = now - DARK_AFTER
    heard = Q(frame__last_seen__gt=since) | Q(updated_at__gt=since)
    return rollout.deployments.filter(heard, state=DeploymentState.RETURNING).exclude(reason=STRANDED).count()
