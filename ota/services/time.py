"""What time it is, for frames without a clock they can trust: bound to their nonce, signed with the director's key."""

from datetime import datetime

from django.utils import timezone

from ota import keys
from protocol.codec import encode
from protocol.envelope import SIGNED_TIME_TYPE, Envelope, Signature, signed_bytes
from protocol.messages import SignedTime


def signed_time(nonce: str, now: datetime | None = None) -> Envelope:
    """An Envelope with a SignedTime. Raises ImproperlyConfigured when there is no online key."""
    payload = encode(SignedTime(nonce=nonce, at=int((now or timezone.now()).timestamp() * 1000)))
    key = keys.online_key("director")
    signature = key.private.sign(signed_bytes(SIGNED_TIME_TYPE, payload))
    return Envelope(SIGNED_TIME_TYPE, payload, [Signature(key.public.keyid, signature)])
