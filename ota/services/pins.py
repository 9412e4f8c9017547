"""Pinning one frame: no rollout touches it, whatever it was offered is taken back, and it may be given a release."""

import datetime as dt

from django.db import transaction
from django.utils import timezone

from fleet import clock
from fleet.models import AuditEntry, Frame
from ota.domain.causes import Cause, Code
from ota.domain.deployment import IN_FLIGHT, DeploymentState
from ota.domain.rollout import NotAllowed
from ota.locks import Lock, hold
from ota.models import Deployment, Pin, Release, Rollout
from ota.services import director
from ota.services.membership import ACTIVE

TOLD = frozenset({*IN_FLIGHT, DeploymentState.DARK})
"""An offer stands that the frame may still follow: one that is dark finds it when it wakes."""


@transaction.atomic
def pin(frame_id: str, release: Release | None, reason: str, actor: str, now: dt.datetime | None = None) -> Pin:
    """The frame keeps ``release`` from now on (None: what it has), and no rollout offers it anything nor takes anything
    back. Pinning a pinned frame changes its pin.

    An offer that it has not answered is taken back, and it is in no stage any more. Raises NotAllowed without a reason
    or for a frame that is not in service.
    """
    now = now or clock.now()
    if not reason.strip():
        raise NotAllowed(Cause(Code.PIN_REASON))
    if not Frame.objects.filter(pk=frame_id, lifecycle=Frame.Lifecycle.ACTIVE).exists():
        raise NotAllowed(Cause(Code.PIN_FRAME, {"frame": frame_id}))
    # In the order in which the engine takes its locks.
    unanswered = Deployment.objects.filter(
        frame_id=frame_id, rollout__state__in=(*ACTIVE, "succeeded"), state__in=[DeploymentState.PENDING, *TOLD]
    )
    touched = unanswered.values("rollout")
    list(Rollout.objects.select_for_update(of=("self",)).filter(pk__in=touched).order_by("-pk"))
    hold(Lock.ROLLOUTS)
    rows = list(unanswered.select_related("rollout", "former_release").order_by("rollout_id"))
    offered = [row for row in rows if row.state in TOLD]
    if release is not None:
        director.set_desired([frame_id], release, timezone.now())
    elif offered:
        director.set_desired([frame_id], offered[-1].former_release, timezone.now())
    Deployment.objects.filter(pk__in=[row.pk for row in rows]).update(
        state=DeploymentState.PENDING, stage=None, left_at=now, updated_at=now
    )
    made, _ = Pin.objects.update_or_create(
        frame_id=frame_id,
        defaults={"release": release, "reason": reason.strip()[:500], "by": actor, "at": now},
    )
    left = {"rollouts": sorted(row.rollout_id for row in rows)} if rows else {}
    _audit("frame.pin", frame_id, actor, {"release": str(release or ""), "reason": made.reason, **left})
    return made


@transaction.atomic
def unpin(frame_id: str, reason: str, actor: str) -> None:
    """Rollouts may have the frame again: those under way take it in at their next look. Raises NotAllowed when it is
    not pinned."""
    hold(Lock.ROLLOUTS)
    if not Pin.objects.filter(pk=frame_id).delete()[0]:
        raise NotAllowed(Cause(Code.NOT_PINNED, {"frame": frame_id}))
    _audit("frame.unpin", frame_id, actor, {"reason": reason.strip()[:500]})


def _audit(action: str, frame_id: str, actor: str, detail: dict[str, object]) -> None:
    AuditEntry.objects.create(at=timezone.now(), actor=actor, action=action, subject=frame_id, detail=detail)
