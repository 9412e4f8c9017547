"""What a frame does over HTTPS when the broker does not let it in: renew a lapsed certificate, or ask for the time.

Each is one piece of blocking work, done beside the loop; it touches no state of the frame but the key files.
"""

import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from device_agent.identity.certificates import Accepted, accept
from device_agent.identity.key import FrameKey
from device_agent.identity.server import BirthServer
from device_agent.tls import Now
from protocol.birth import RenewRequest, proof_bytes
from protocol.envelope import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """Everything a renewal needs, taken before it starts."""

    frame_id: str
    certificate: x509.Certificate
    authorities: list[x509.Certificate]
    key: FrameKey
    next_key: FrameKey
    now: Now


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer about the time, still to be verified."""

    nonce: str
    envelope: Envelope


def renew(url: str, context: Callable[[], ssl.SSLContext], lapsed: Lapsed) -> Accepted:
    """A certificate for the next key, against proof of the old one. Raises BirthFailed, or Refused where the answer is
    not acceptable."""
    server = BirthServer(url, context)
    nonce = server.nonce()
    request = lapsed.next_key.request(lapsed.frame_id)
    issued = server.renew(
        RenewRequest(
            certificate=lapsed.certificate.public_bytes(serialization.Encoding.PEM).decode(),
            csr=request,
            nonce=nonce,
            signature=lapsed.key.sign(proof_bytes(nonce, request)),
        )
    )
    return accept(
        lapsed.frame_id, lapsed.next_key.public, issued.certificate, issued.ca, lapsed.authorities, lapsed.now()
    )


def ask_time(url: str, context: Callable[[], ssl.SSLContext]) -> Timed:
    """What time it is, says the endpoint. Raises BirthFailed."""
    nonce = secrets.token_hex(16)
    return Timed(nonce, BirthServer(url, context).time(nonce))
