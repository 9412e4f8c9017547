"""What a rollout waits for, and where frames are not what they are meant to be."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import F, Q, QuerySet

from fleet import clock
from ota.domain.causes import Cause, Code
from ota.domain.deployment import IN_FLIGHT, STRANDED, DeploymentState
from ota.domain.gates import Facts, waits_for
from ota.domain.rollout import RolloutState
from ota.models import Deployment, DesiredState, Rollout
from ota.services.facts import facts_of, frozen_because, plan_of, state_of

EXAMPLES = 20
"""Frames named of each kind."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What the rollout waits for: ``code`` and ``parameters`` as in ``ota.domain.causes``, and its English sentence."""

    code: str
    parameters: Mapping[str, int | str]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class DriftedFrame:
    """A frame whose report is not what it should run. Digests; None where nothing is meant or was said."""

    frame_id: str
    desired: str | None
    reported: str | None
    state: str | None
    """Its installer's, as it reported."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Frames of the rollout whose reported release is not the desired one, except the ``under_way`` ones that are in
    flight or returning; EXAMPLES at most are named."""

    frames: int
    under_way: int
    examples: tuple[DriftedFrame, ...]


@dataclass(frozen=True, kw_only=True)
class Stranded:
    """Frames that keep the release because nobody knows what they ran before; EXAMPLES at most are named."""

    frames: int
    examples: tuple[str, ...]


def waiting_of(rollout: Rollout) -> Waiting | None:
    """What it waits for now; None when it need not, or when nothing will happen by itself."""
    cause = cause_of_waiting(rollout)
    if cause is None:
        return None
    return Waiting(code=cause.code.value, parameters=dict(cause.parameters), sentence=str(cause))


def cause_of_waiting(rollout: Rollout) -> Cause | None:
    """As ``waiting_of``, to be told in any language."""
    plan = plan_of(rollout)
    if rollout.state == RolloutState.SCHEDULED and plan.start_at is not None:
        return Cause(Code.WAITS_START, {"time": plan.start_at.isoformat(timespec="minutes")})
    if rollout.state != RolloutState.RUNNING:
        return None
    frozen = None if plan.emergency else frozen_because()
    if frozen is not None:
        return Cause(Code.WAITS_FROZEN, {"reason": frozen})
    if rollout.current_stage == 0:
        return None
    now = clock.now()
    facts: Facts = facts_of(rollout, now)
    return waits_for(state_of(rollout), facts, now)


def drift_of(rollout: Rollout) -> Drift:
    """Frames of this rollout that are not what they should be."""
    off = drifted().filter(frame__deployments__rollout=rollout)
    moving = [*IN_FLIGHT, DeploymentState.RETURNING]
    on_the_way = Deployment.objects.filter(rollout=rollout, state__in=moving)
    settled = off.exclude(frame__in=on_the_way.values("frame"))
    frames = settled.count()
    return Drift(
        frames=frames,
        under_way=off.count() - frames,
        examples=tuple(drifted_frame(row) for row in settled.order_by("frame_id")[:EXAMPLES]),
    )


def drifted() -> QuerySet[DesiredState]:
    """DesiredStates, with what their frames report, of all frames that report something else or nothing."""
    silent = Q(frame__reported=None)
    other = ~Q(frame__reported__release=F("release"))
    rows = DesiredState.objects.filter(silent | other, release__isnull=False, frame__lifecycle="active")
    return rows.select_related("frame__reported")


def drifted_frame(row: DesiredState) -> DriftedFrame:
    """One of ``drifted``."""
    reported = getattr(row.frame, "reported", None)
    return DriftedFrame(
        frame_id=row.frame_id,
        desired=row.release_id,
        reported=(reported.release or None) if reported else None,
        state=reported.state if reported else None,
    )


def stranded_of(rollout: Rollout) -> Stranded:
    """Frames that cannot go back."""
    rows = rollout.deployments.filter(reason=STRANDED).exclude(state=DeploymentState.RETURNED)
    names = rows.order_by("frame_id").values_list("frame_id", flat=True)
    return Stranded(frames=rows.count(), examples=tuple(names[:EXAMPLES]))
