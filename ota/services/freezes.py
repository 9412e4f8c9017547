"""A freeze: while one stands, nothing is offered to anybody but in an emergency. What goes back still goes back."""

import datetime as dt

from django.db import transaction
from django.utils import timezone

from fleet import clock
from fleet.models import AuditEntry
from ota.domain.causes import Cause, Code
from ota.domain.rollout import NotAllowed
from ota.locks import Lock, hold
from ota.models import Freeze


@transaction.atomic
def freeze(reason: str, actor: str, now: dt.datetime | None = None) -> Freeze:
    """From now on nothing is offered. Raises NotAllowed without a reason, or while another freeze stands."""
    if not reason.strip():
        raise NotAllowed(Cause(Code.FREEZE_REASON))
    hold(Lock.ROLLOUTS)
    standing = current()
    if standing is not None:
        raise NotAllowed(Cause(Code.FROZEN_ALREADY, {"reason": standing.reason}))
    made = Freeze.objects.create(reason=reason.strip()[:500], by=actor, at=now or clock.now())
    _audit("rollouts.freeze", actor, made.reason)
    return made


@transaction.atomic
def lift(actor: str, reason: str = "", now: dt.datetime | None = None) -> Freeze:
    """Rollouts go on. Raises NotAllowed when nothing is frozen."""
    hold(Lock.ROLLOUTS)
    standing = current()
    if standing is None:
        raise NotAllowed(Cause(Code.NOT_FROZEN))
    standing.lifted_by, standing.lifted_at = actor, now or clock.now()
    standing.save(update_fields=["lifted_by", "lifted_at"])
    _audit("rollouts.lift", actor, reason.strip()[:500])
    return standing


def current() -> Freeze | None:
    """The freeze that stands, if any."""
    return Freeze.objects.filter(lifted_at=None).order_by("-id").first()


def _audit(action: str, actor: str, reason: str) -> None:
    AuditEntry.objects.create(
        at=timezone.now(), actor=actor, action=action, subject="rollouts", detail={"reason": reason}
    )
