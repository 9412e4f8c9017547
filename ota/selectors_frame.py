"""One frame: what it should run and does, and why it does or does not have a rollout's release."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Q

from fleet import clock
from fleet.models import Frame
from ota.models import Deployment, DesiredState, Pin, Release, Rollout
from ota.selectors_eligibility import reason_for
from ota.selectors_now import DriftedFrame, drifted, drifted_frame

HISTORY = 20
"""Rollouts shown of one frame."""


@dataclass(frozen=True, kw_only=True)
class DeploymentDetail:
    """One frame in one rollout. ``u`` is its household's number, 0 to 1; ``stage`` the first that exposes it, None for
    none; ``former_release`` what a rollback gives back."""

    rollout: int
    release: str
    rollout_state: str
    stage: int | None
    arm: str
    u: float
    state: str
    reason: str
    detail: str
    attempts: int
    offered_at: dt.datetime | None
    attempted_at: dt.datetime | None
    committed_at: dt.datetime | None
    dark_at: dt.datetime | None
    returned_at: dt.datetime | None
    updated_at: dt.datetime
    former_release: str | None


@dataclass(frozen=True, kw_only=True)
class PinDetail:
    """Why no rollout touches a frame; ``release`` None: it keeps whatever it has."""

    release: str | None
    reason: str
    by: str
    at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class FrameStanding:
    """What a frame should run and does, by name where the release is known here; ``drifted``: they differ."""

    frame_id: str
    desired: str | None
    reported: str | None
    state: str | None
    drifted: bool
    pin: PinDetail | None
    deployments: tuple[DeploymentDetail, ...]
    """Newest rollout first."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a frame does or does not have a rollout's release; ``code``, ``parameters`` as in ``ota.domain.causes``."""

    rollout: int
    release: str
    frame_id: str
    code: str
    parameters: Mapping[str, int | str]
    sentence: str
    deployment: DeploymentDetail | None
    """None: it is not in the rollout."""
    standing: FrameStanding


def explain(rollout: Rollout, frame_id: str, now: dt.datetime | None = None) -> Explanation:
    """Why this frame has the release, or not. Raises Frame.DoesNotExist."""
    cause = reason_for(rollout, frame_id, now or clock.now())
    standing = frame_standing(frame_id)
    here = rollout.deployments.filter(frame=frame_id).select_related(*_RELATED).first()
    return Explanation(
        rollout=rollout.pk,
        release=str(rollout.release),
        frame_id=frame_id,
        code=cause.code.value,
        parameters=dict(cause.parameters),
        sentence=str(cause),
        deployment=None if here is None else _deployment(here),
        standing=standing,
    )


def frame_standing(frame_id: str) -> FrameStanding:
    """What the frame should run and does. Raises Frame.DoesNotExist."""
    frame = Frame.objects.select_related("reported", "pin__release").get(pk=frame_id)
    desired = DesiredState.objects.filter(pk=frame_id).values_list("release_id", flat=True).first()
    reported = getattr(frame, "reported", None)
    said = reported.release if reported is not None else ""
    known = {row.digest: str(row) for row in Release.objects.filter(Q(digest=desired) | Q(digest=said))}
    pin: Pin | None = getattr(frame, "pin", None)
    rows = Deployment.objects.filter(frame=frame).select_related(*_RELATED).order_by("-rollout_id")[:HISTORY]
    return FrameStanding(
        frame_id=frame_id,
        desired=known.get(desired or "", desired),
        reported=known.get(said, said) or None,
        state=reported.state if reported is not None else None,
        drifted=desired is not None and said != desired,
        pin=None if pin is None else pin_detail(pin),
        deployments=tuple(_deployment(row) for row in rows),
    )


def pin_detail(pin: Pin) -> PinDetail:
    """A pin in plain data."""
    return PinDetail(release=str(pin.release) if pin.release else None, reason=pin.reason, by=pin.by, at=pin.at)


def drifted_frames(limit: int, after: str = "") -> list[DriftedFrame]:
    """Frames by id, from ``after`` on, whose report is not what they should run, or who never reported."""
    rows = drifted().filter(frame_id__gt=after).order_by("frame_id")[:limit]
    return [drifted_frame(row) for row in rows]


_RELATED = ("rollout__release", "former_release")


def _deployment(row: Deployment) -> DeploymentDetail:
    return DeploymentDetail(
        rollout=row.rollout_id,
        release=str(row.rollout.release),
        rollout_state=row.rollout.state,
        stage=row.stage,
        arm=row.arm,
        u=row.u,
        state=row.state,
        reason=row.reason,
        detail=row.detail,
        attempts=row.attempts,
        offered_at=row.offered_at,
        attempted_at=row.attempted_at,
        committed_at=row.committed_at,
        dark_at=row.dark_at,
        returned_at=row.returned_at,
        updated_at=row.updated_at,
        former_release=str(row.former_release) if row.former_release else None,
    )
