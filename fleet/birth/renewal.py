"""A certificate that lapsed in a drawer is renewed against proof of its key.

A nonce is its own proof of where it came from: 32 bits of time, 32 random bits, 64 bits of HMAC, so handing them out
keeps nothing, however many are asked for. Only a nonce that a known key has signed is written down, as spent.
"""

import secrets
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from fleet.models import Frame, FrameCertificate, SpentNonce
from fleet.services.audit import audit
from fleet.services.certificates import IssuedCertificate, renew
from protocol.birth import RenewRequest, proof_bytes
from protocol.errors import Reason, Refused

NONCE_LIFE = timedelta(minutes=5)
SKEW = timedelta(minutes=1)

UNKNOWN = "This certificate is not one of this fleet's: claim the frame with a new label."
REVOKED = "This certificate was revoked: claim the frame with a new label."


def new_nonce(now: datetime | None = None) -> str:
    """A nonce that is good for one renewal within NONCE_LIFE."""
    stem = f"{int((now or timezone.now()).timestamp()) & 0xFFFF_FFFF:08x}{secrets.token_hex(4)}"
    return stem + _seal(stem)


@transaction.atomic
def renew_lapsed(request: RenewRequest, *, now: datetime | None = None) -> IssuedCertificate:
    """The next certificate for whoever holds the key of one that was issued here. Raises Refused."""
    now = now or timezone.now()
    _check_nonce(request.nonce, now)
    try:
        shown = x509.load_pem_x509_certificate(request.certificate.encode())
    except (ValueError, x509.InvalidVersion):
        raise Refused(Reason.BAD_MESSAGE, "This is no certificate in PEM: send the frame's own.") from None
    row = FrameCertificate.objects.filter(fingerprint=shown.fingerprint(hashes.SHA256()).hex()).first()
    # Only of what was issued here is more looked at than its bytes.
    key = shown.public_key() if row is not None else None
    if row is None or not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused(Reason.WRONG_IDENTITY, UNKNOWN)
    try:
        key.verify(request.signature, proof_bytes(request.nonce, request.csr), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Refused(
            Reason.WRONG_SIGNATURE, "The proof is not by the certificate's key: sign nonce and request with it."
        ) from None
    # From here on somebody who holds a frame's key is asking, so it may cost a row.
    SpentNonce.objects.filter(expires_at__lt=now).delete()
    _, is_first = SpentNonce.objects.get_or_create(
        nonce=request.nonce, defaults={"expires_at": now + NONCE_LIFE + SKEW}
    )
    if not is_first:
        raise Refused(Reason.EXPIRED, "This nonce was used already: ask for a new one.")
    Frame.objects.select_for_update().filter(pk=row.frame_id).first()
    row.refresh_from_db()
    if row.revoked_at is not None:
        raise Refused(Reason.WRONG_IDENTITY, REVOKED)
    issued = renew(row.frame_id, request.csr, now=now)
    audit(f"frame {row.frame_id}", "renew_lapsed", row.frame_id, {"old": row.serial_hex, "new": issued.serial_hex}, now)
    return issued


def _check_nonce(nonce: str, now: datetime) -> None:
    stem, seal = nonce[:16], nonce[16:]
    made = datetime.fromtimestamp(int(stem[:8], 16), UTC)
    fresh = now - NONCE_LIFE <= made <= now + SKEW
    if not constant_time_compare(seal, _seal(stem)) or not fresh:
        raise Refused(Reason.EXPIRED, "This nonce is not one of the last five minutes: ask for a new one.")


def _seal(stem: str) -> str:
    return salted_hmac("fleet.birth.nonce", stem, algorithm="sha256").hexdigest()[:16]
