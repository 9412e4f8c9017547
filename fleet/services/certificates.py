"""Client certificates of frames: issued for keys that are made on the frame, renewed, and revoked.

At most two of one frame's certificates are good at a time: the one in use and its successor. A successor leaves its
predecessor PREDECESSOR to be replaced at leisure; a revoked one is worth nothing at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from fleet import authority
from fleet.models import Frame, FrameCertificate
from fleet.pki import RENEW_BEFORE, Authority, Certificate, key_fingerprint
from fleet.services.audit import audit
from fleet.services.broker import users_changed
from protocol.errors import Reason, Refused
from protocol.limits import MAX_PEM

PREDECESSOR = timedelta(days=7)
"""How long a renewed certificate stays good beside its successor."""
GOOD_AT_ONCE = 2
CUT_OFF = timedelta(minutes=2)
"""So long after a revocation a connection of the revoked certificate may still stand, at the worst."""
A_DAY = 4
"""Certificates that one frame gets in a day: one in two years is what it needs, some more while something is wrong."""
KEPT = 8
"""Rows of one frame whose certificates have ended by themselves: one of them is the way back in for a frame that lay in
a drawer and lost the answer with its next certificate."""
MAX_REASON = 500
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """What a frame gets: its certificate with any intermediate after it, and the authorities to trust, all PEM."""

    frame_id: str
    certificate: str
    ca: str
    serial_hex: str
    not_after: datetime


def good_certificates(now: datetime | None = None) -> QuerySet[FrameCertificate]:
    """Certificates that open the broker's door now: neither revoked nor expired nor replaced, of frames in service."""
    return FrameCertificate.objects.filter(
        revoked_at=None, good_until__gt=now or timezone.now(), frame__lifecycle=Frame.Lifecycle.ACTIVE
    )


def read_csr(csr: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request that its maker has proved to hold. Raises Refused with one sentence.

    Nothing else of the request is used: subject and extensions are the backend's to decide.
    """
    if len(csr) > MAX_PEM:
        raise Refused(Reason.BAD_MESSAGE, f"The certificate request has more than {MAX_PEM} characters.")
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key, is_own = request.public_key(), request.is_signature_valid
        hashed = request.signature_hash_algorithm
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Refused(Reason.BAD_MESSAGE, "This is no certificate request in PEM: make a new one.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused(Reason.BAD_MESSAGE, "A frame's key is EC P-256: make one of that kind.")
    if not is_own or not isinstance(hashed, _HASHES):
        raise Refused(Reason.WRONG_SIGNATURE, "The certificate request is not signed by its own key with SHA-2.")
    return key


@transaction.atomic
def renew(frame_id: str, csr: str, *, now: datetime | None = None) -> IssuedCertificate:
    """The next certificate of a frame in service whose identity the caller has made sure of. Raises Refused."""
    key = read_csr(csr)
    frame = Frame.objects.select_for_update().filter(pk=frame_id).first()
    if frame is None or frame.lifecycle != Frame.Lifecycle.ACTIVE:
        raise Refused(Reason.WRONG_IDENTITY, "This frame is not in service: claim it with a new label.")
    return issue(frame, key, now=now)


@transaction.atomic
def renew_connected(frame_id: str, csr: str, *, now: datetime | None = None) -> IssuedCertificate:
    """``renew`` for whom a broker lets speak in the frame's name. Raises Refused.

    Which of the frame's certificates that is cannot be told, and a broker cuts a revoked one off some seconds late:
    whoever stole it must not get the next one in between.
    """
    now = now or timezone.now()
    # The row is held before anything is looked at, so no revocation comes in between.
    frame = Frame.objects.select_for_update().filter(pk=frame_id).first()
    if frame is None or not good_certificates(now).filter(frame=frame).exists():
        raise Refused(Reason.WRONG_IDENTITY, "This frame holds no good certificate: claim it with a new label.")
    if FrameCertificate.objects.filter(frame=frame, revoked_at__gt=now - CUT_OFF).exists():
        raise Refused(Reason.NOT_AVAILABLE, "A certificate of this frame was just revoked: try again in some minutes.")
    return renew(frame_id, csr, now=now)


@transaction.atomic
def issue(frame: Frame, key: ec.EllipticCurvePublicKey, *, now: datetime | None = None) -> IssuedCertificate:
    """A certificate for ``key``; the caller holds the frame's row. Asked again for the newest key it gives the same
    answer, so that one that was lost on its way does no harm. Raises Refused."""
    now = now or timezone.now()
    signing = authority.current()
    print_ = key_fingerprint(key)
    with connection.cursor() as cursor:  # two frames that bring the same key at once: one waits for the other
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"key {print_}"])
    others = FrameCertificate.objects.filter(key_fingerprint=print_)
    if others.exclude(frame=frame).exists():
        raise Refused(Reason.WRONG_IDENTITY, "Another frame has this key: make a new one on this frame.")
    if others.exclude(revoked_at=None).exists():
        raise Refused(Reason.WRONG_IDENTITY, "This key was revoked: make a new one on the frame.")
    rows = FrameCertificate.objects.filter(frame=frame)
    newest = rows.order_by("-issued_at", "-id").first()
    if newest is not None and newest.key_fingerprint == print_ and not _is_due(newest, signing, now):
        return _answer(frame.pk, newest, signing)
    # Revoked ones do not count: whoever used them all up with a stolen key must not keep the next hardware waiting.
    if rows.filter(issued_at__gt=now - timedelta(days=1), revoked_at=None).count() >= A_DAY:
        raise Refused(Reason.NOT_AVAILABLE, f"A frame gets at most {A_DAY} certificates a day: try again tomorrow.")
    row = record(frame.pk, signing.certify(frame.pk, key, now=now), now)
    row.save(force_insert=True)
    _make_room(frame, row, now)
    Frame.objects.filter(pk=frame.pk).update(certificate_fingerprint=row.fingerprint)
    users_changed()
    return _answer(frame.pk, row, signing)


def record(frame_id: str, certificate: Certificate, now: datetime) -> FrameCertificate:
    """The row of a new certificate, not saved yet."""
    return FrameCertificate(
        frame_id=frame_id,
        serial_hex=certificate.serial_hex,
        fingerprint=certificate.fingerprint,
        key_fingerprint=certificate.key_fingerprint,
        authority=certificate.authority,
        der=certificate.der,
        issued_at=now,
        not_after=certificate.not_after,
        good_until=certificate.not_after,
    )


@transaction.atomic
def revoke(
    frame_id: str, actor: str, reason: str, *, serial_hex: str | None = None, now: datetime | None = None
) -> int:
    """Close the broker's door to all certificates of a frame, or to one. Returns how many were not revoked before."""
    now = now or timezone.now()
    rows = FrameCertificate.objects.filter(frame_id=frame_id, revoked_at=None)
    if serial_hex is not None:
        rows = rows.filter(serial_hex=serial_hex)
    revoked = rows.update(revoked_at=now, revoked_reason=reason[:MAX_REASON])
    audit(
        actor, "revoke_certificates", frame_id, {"certificates": revoked, "serial": serial_hex, "reason": reason}, now
    )
    users_changed()
    return revoked


def should_renew(frame_ids: list[str], now: datetime | None = None) -> set[str]:
    """Which of these frames should ask for a new certificate now: their newest one is from an authority that no longer
    signs, or near its end."""
    now = now or timezone.now()
    newest = (
        FrameCertificate.objects.filter(frame_id__in=frame_ids, revoked_at=None)
        .order_by("frame_id", "-issued_at", "-id")
        .distinct("frame_id")
        .values_list("frame_id", "authority", "not_after")
    )
    signing = authority.current().id
    return {one for one, signed_by, end in newest if signed_by != signing or end < now + RENEW_BEFORE}


def _is_due(row: FrameCertificate, signing: Authority, now: datetime) -> bool:
    """Whether the same key deserves a new certificate already."""
    return row.authority != signing.id or row.good_until < now + RENEW_BEFORE


def _make_room(frame: Frame, newest: FrameCertificate, now: datetime) -> None:
    """Predecessors end soon, all but the last of them at once. Rows stay until their certificates have ended by
    themselves: a broker that knows the authority alone is told of those that ended before (the list of revoked ones).
    Some stay longer, see KEPT."""
    older = FrameCertificate.objects.filter(frame=frame).exclude(pk=newest.pk).order_by("-issued_at", "-id")
    good = list(older.filter(revoked_at=None, good_until__gt=now))
    for place, row in enumerate(good, start=1):
        row.good_until = now if place >= GOOD_AT_ONCE else min(row.good_until, now + PREDECESSOR)
        row.save(update_fields=["good_until"])
    useless = older.filter(not_after__lte=now, revoked_at=None).values_list("pk", flat=True)[KEPT:]
    FrameCertificate.objects.filter(pk__in=list(useless)).delete()


def _answer(frame_id: str, row: FrameCertificate, signing: Authority) -> IssuedCertificate:
    text = x509.load_der_x509_certificate(bytes(row.der)).public_bytes(serialization.Encoding.PEM) + signing.cross
    return IssuedCertificate(frame_id, text.decode(), signing.bundle.decode(), row.serial_hex, row.not_after)
