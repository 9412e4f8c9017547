"""Frames that leave, and frames whose hardware is replaced. Their history stays.

``ota.services.lifecycle`` does the same together with what the director means for them; call that one.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from fleet.models import Claim, Frame, FrameCertificate, ReportedState
from fleet.services import certificates
from fleet.services.audit import audit
from fleet.services.claims import LIFE, NewClaim, check_life, make_claims
from protocol.errors import Reason, Refused

MAX_REASON = certificates.MAX_REASON


@transaction.atomic
def retire(frame_id: str, actor: str, reason: str, *, now: datetime | None = None) -> None:
    """The frame leaves for good: no certificate of it is good any more, no group means it. Raises Refused,
    Frame.DoesNotExist."""
    now = now or timezone.now()
    check_reason(reason)
    frame = Frame.objects.select_for_update().get(pk=frame_id)
    if frame.lifecycle == Frame.Lifecycle.RETIRED:
        raise Refused(Reason.INCOMPATIBLE, f"{frame_id} is retired already.")
    Claim.objects.filter(frame=frame).delete()
    Frame.objects.filter(pk=frame_id).update(lifecycle=Frame.Lifecycle.RETIRED)
    audit(actor, "retire_frame", frame_id, {"reason": reason}, now)
    certificates.revoke(frame_id, actor, reason, now=now)


@transaction.atomic
def replace(frame_id: str, actor: str, reason: str, *, life: timedelta = LIFE, now: datetime | None = None) -> NewClaim:
    """Other hardware takes the id over, by a new claim; the old hardware's certificates are revoked at once. What it
    said it ran is forgotten, its telemetry and its rollouts stay. Raises Refused, Frame.DoesNotExist."""
    now = now or timezone.now()
    check_reason(reason)
    check_life(life)
    frame = Frame.objects.select_for_update().get(pk=frame_id)
    report = ReportedState.objects.filter(pk=frame_id).first()
    ran = report.release if report else ""
    ReportedState.objects.filter(pk=frame_id).delete()
    Frame.objects.filter(pk=frame_id).update(
        lifecycle=Frame.Lifecycle.AWAITED, desired_version=0, agent_version="", certificate_fingerprint=""
    )
    (made,) = make_claims([frame_id], actor, life=life, now=now)
    audit(actor, "replace_frame", frame_id, {"reason": reason, "was": frame.lifecycle, "ran": ran}, now)
    certificates.revoke(frame_id, actor, reason, now=now)
    return made


@transaction.atomic
def revoke(
    frame_id: str, actor: str, reason: str, *, serial_hex: str | None = None, now: datetime | None = None
) -> int:
    """The frame, or one of its certificates, has fallen into wrong hands. Returns how many certificates were revoked.

    Raises Refused when there is nothing to revoke, Frame.DoesNotExist.
    """
    check_reason(reason)
    Frame.objects.select_for_update().get(pk=frame_id)
    rows = FrameCertificate.objects.filter(frame_id=frame_id, revoked_at=None)
    if serial_hex is not None and not rows.filter(serial_hex=serial_hex).exists():
        raise Refused(Reason.INCOMPATIBLE, f"{frame_id} has no certificate {serial_hex[:40]} that could be revoked.")
    if not rows.exists():
        raise Refused(Reason.INCOMPATIBLE, f"{frame_id} holds no certificate that could be revoked.")
    return certificates.revoke(frame_id, actor, reason, serial_hex=serial_hex, now=now)


def check_reason(reason: str) -> None:
    """Raises Refused with one sentence."""
    if not reason.strip():
        raise Refused(Reason.BAD_MESSAGE, "Write why: the audit trail keeps it for whoever asks later.")
    if len(reason) > MAX_REASON or "\0" in reason:
        raise Refused(Reason.BAD_MESSAGE, f"Write the reason in at most {MAX_REASON} plain characters.")
