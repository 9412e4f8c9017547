"""Claims: a token on a frame's label, with which the frame asks for its first certificate. Good once, for a while."""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from fleet.models import Claim, Frame, FrameCertificate
from fleet.pki import key_fingerprint
from fleet.services.audit import audit
from fleet.services.certificates import IssuedCertificate, good_certificates, issue, read_csr
from protocol.birth import ClaimRequest
from protocol.errors import Reason, Refused

LIFE = timedelta(days=90)
MAX_LIFE = timedelta(days=3650)
REPEAT = timedelta(hours=1)
"""How long the key that used a claim gets the same answer again: the first may have been lost on its way."""
BATCH = 2_000

UNKNOWN = "This claim is unknown or was replaced by a newer one: check the label, or make a new claim for the frame."


@dataclass(frozen=True, slots=True)
class NewClaim:
    """A claim that was just made; the token is told once and never stored."""

    frame_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Born:
    """A frame as it is known here, with its first certificate."""

    certificate: IssuedCertificate
    hardware: str
    locale: str


def new_token() -> str:
    """130 random bits as 26 letters and digits."""
    return base64.b32encode(secrets.token_bytes(17)).decode()[:26].lower()


def make_claims(
    frame_ids: Iterable[str], actor: str, *, life: timedelta = LIFE, now: datetime | None = None
) -> Iterator[NewClaim]:
    """A new claim for each frame, in place of any earlier one; the caller has a transaction and audits. Lazy, so that
    many need little memory."""
    now = now or timezone.now()
    batch: list[NewClaim] = []
    for frame_id in frame_ids:
        batch.append(NewClaim(frame_id, new_token()))
        if len(batch) == BATCH:
            yield from _store(batch, actor, now, now + life)
            batch = []
    yield from _store(batch, actor, now, now + life)


@transaction.atomic
def claim_again(
    frame_id: str, actor: str, *, reason: str = "", life: timedelta = LIFE, now: datetime | None = None
) -> NewClaim:
    """A new label for a frame that no certificate of its own lets in: one that is not born yet, or was revoked.

    Raises Refused for others: replacing a frame is a step of its own. Raises Frame.DoesNotExist.
    """
    now = now or timezone.now()
    check_life(life)
    frame = Frame.objects.select_for_update().get(pk=frame_id)
    if frame.lifecycle == Frame.Lifecycle.RETIRED:
        raise Refused(Reason.INCOMPATIBLE, f"{frame_id} is retired: replace it to take its id into service again.")
    if good_certificates(now).filter(frame=frame).exists():
        raise Refused(
            Reason.INCOMPATIBLE, f"{frame_id} holds a good certificate: replace the frame, which ends the old one."
        )
    (made,) = make_claims([frame_id], actor, life=life, now=now)
    audit(actor, "make_claim", frame_id, {"expires_at": (now + life).isoformat(), "reason": reason}, now)
    return made


@transaction.atomic
def redeem(request: ClaimRequest, *, now: datetime | None = None) -> Born:
    """A frame is born. Raises Refused with one sentence; the claim is good still then, unless it was spent before."""
    now = now or timezone.now()
    key = read_csr(request.csr)
    # The frame's row first, as everybody who locks both does.
    known = Claim.objects.filter(digest=digest(request.claim)).values_list("frame_id", flat=True).first()
    frame = Frame.objects.select_for_update().filter(pk=known).first() if known else None
    claim = Claim.objects.filter(digest=digest(request.claim), frame=frame).first() if frame else None
    if frame is None or claim is None:
        raise Refused(Reason.NOT_AVAILABLE, UNKNOWN)
    print_ = key_fingerprint(key)
    if claim.used_at is not None:
        if claim.key_fingerprint != print_ or now > claim.used_at + REPEAT:
            raise Refused(
                Reason.NOT_AVAILABLE,
                f"This claim was used on {claim.used_at:%Y-%m-%d %H:%M} UTC: make a new claim for the frame.",
            )
    elif claim.expires_at <= now:
        raise Refused(
            Reason.EXPIRED, f"This claim expired on {claim.expires_at:%Y-%m-%d}: make a new claim for the frame."
        )
    else:
        _end_others(frame, print_, now)
    issued = issue(frame, key, now=now)
    if claim.used_at is None:
        Claim.objects.filter(pk=claim.pk).update(used_at=now, key_fingerprint=print_)
        Frame.objects.filter(pk=frame.pk).update(lifecycle=Frame.Lifecycle.ACTIVE, enrolled_at=now)
        said = {"hardware": request.hardware, "locale": request.locale, "agent": request.agent_version}
        audit(f"frame {frame.pk}", "claim", frame.pk, {**said, "serial": issued.serial_hex}, now)
    return Born(issued, frame.hardware, frame.locale)


def _end_others(frame: Frame, key_fingerprint: str, now: datetime) -> None:
    """One identity, one frame: nobody is born into a name that somebody holds, nor can the one before come back by
    /birth/renew afterwards. Raises Refused."""
    others = FrameCertificate.objects.filter(frame=frame, revoked_at=None).exclude(key_fingerprint=key_fingerprint)
    if good_certificates(now).filter(pk__in=others).exists():  # it came back by itself after the label was made
        raise Refused(
            Reason.NOT_AVAILABLE, f"{frame.pk} holds a good certificate: replace the frame, which makes a new claim."
        )
    others.update(revoked_at=now, revoked_reason="The frame was claimed anew.")


def claim_url(token: str) -> str | None:
    """What the label's QR code carries, None where nobody has said how frames reach the birth endpoint."""
    return f"{settings.FRAMEFLEET_BIRTH_URL}/claim/{token}" if settings.FRAMEFLEET_BIRTH_URL else None


def digest(token: str) -> str:
    """What is kept of a token: 130 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_life(life: timedelta) -> None:
    """Raises Refused."""
    if not timedelta(hours=1) <= life <= MAX_LIFE:
        raise Refused(Reason.BAD_MESSAGE, f"A claim is good for 1 hour to {MAX_LIFE.days} days.")


def _store(batch: list[NewClaim], actor: str, now: datetime, expires_at: datetime) -> list[NewClaim]:
    Claim.objects.bulk_create(
        [
            Claim(frame_id=one.frame_id, digest=digest(one.token), made_by=actor, made_at=now, expires_at=expires_at)
            for one in batch
        ],
        update_conflicts=True,
        unique_fields=["frame"],
        update_fields=["digest", "made_by", "made_at", "expires_at", "used_at", "key_fingerprint"],
    )
    return batch
