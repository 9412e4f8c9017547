"""Frames that leave or are replaced, with everything that is meant for them."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from fleet.services import lifecycle
from fleet.services.claims import LIFE, NewClaim
from ota.domain.deployment import IN_FLIGHT, DeploymentState
from ota.locks import Lock, hold
from ota.models import Deployment, DesiredState, RetainedObject, Rollout
from ota.services.membership import ACTIVE
from protocol.topics import frame_topic

RETIRED = "The frame was retired."


@transaction.atomic
def retire(frame_id: str, actor: str, reason: str, *, now: datetime | None = None) -> None:
    """``fleet.services.lifecycle.retire``; besides, its DesiredState is taken off the broker and no rollout waits for
    it. Raises Refused, Frame.DoesNotExist."""
    now = now or timezone.now()
    # In the order in which the engine takes its locks: a newer rollout holds its row when it ends those it supersedes.
    touched = Deployment.objects.filter(frame_id=frame_id, rollout__state__in=ACTIVE).values("rollout")
    list(Rollout.objects.select_for_update(of=("self",)).filter(pk__in=touched).order_by("-pk"))
    hold(Lock.ROLLOUTS)
    hold(Lock.DIRECTOR)
    lifecycle.retire(frame_id, actor, reason, now=now)
    DesiredState.objects.filter(pk=frame_id).delete()
    # An empty retained message makes the broker forget the one it has.
    RetainedObject.objects.update_or_create(
        topic=frame_topic(frame_id, "desired"),
        defaults={"order": RetainedObject.Order.CHUNK, "payload": b"", "length": 0, "published": False},
    )
    Deployment.objects.filter(frame_id=frame_id, state__in=IN_FLIGHT).update(
        state=DeploymentState.DARK, detail=RETIRED, updated_at=now
    )


@transaction.atomic
def replace(frame_id: str, actor: str, reason: str, *, life: timedelta = LIFE, now: datetime | None = None) -> NewClaim:
    """``fleet.services.lifecycle.replace``; the new hardware should run what the old one should. Raises Refused,
    Frame.DoesNotExist."""
    made = lifecycle.replace(frame_id, actor, reason, life=life, now=now)
    RetainedObject.objects.filter(topic=frame_topic(frame_id, "desired")).delete()
    return made
