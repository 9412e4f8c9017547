"""What a frame and the birth endpoint (HTTPS) say to each other: JSON bodies, one POST each.

``/birth/claim``  ClaimRequest -> Issued: a claim token from the factory's label becomes a frame's first certificate
``/birth/nonce``  {} -> Nonce
``/birth/renew``  RenewRequest -> Issued: a certificate that lapsed in a drawer, against proof of its key
``/birth/time``   Nonce -> an ``Envelope`` with a SignedTime

Refusals are ``{"detail": "one sentence"}`` with a 4xx status. The frame's key is made on the frame and never leaves it.
"""

import re
from typing import Annotated

from msgspec import Meta

from protocol.envelope import RENEWAL_TYPE, signed_bytes
from protocol.errors import Reason, Refused
from protocol.messages import FrameId, Message, Pem, RandomId, Word

CLAIM_PATH = "/birth/claim"
NONCE_PATH = "/birth/nonce"
RENEW_PATH = "/birth/renew"
TIME_PATH = "/birth/time"

MAX_BODY = 64 * 1024
"""Bytes in a request or an answer."""

_CLAIM = re.compile(r"[a-z2-7]{26}")
ClaimToken = Annotated[str, Meta(pattern=r"^[a-z2-7]{26}\Z")]
"""130 random bits in base32, lower case."""


def read_claim(text: str) -> str:
    """A claim token as people type it (any case, with spaces or dashes) or as a QR code carries it (after the last
    ``/``). Raises Refused."""
    token = re.sub(r"[\s-]", "", text.rpartition("/")[2]).lower()
    if _CLAIM.fullmatch(token) is None:
        raise Refused(
            Reason.BAD_MESSAGE, "This is no claim token: type the 26 letters and digits from the frame's label."
        )
    return token


class ClaimRequest(Message, frozen=True, kw_only=True):
    """A frame is born. ``csr`` is for its key; of it only the public key and its proof of possession are read."""

    claim: ClaimToken
    csr: Pem
    hardware: Word
    locale: Word
    agent_version: Word


class Nonce(Message, frozen=True, kw_only=True):
    """128 random bits, good for one use within minutes."""

    nonce: RandomId


class RenewRequest(Message, frozen=True, kw_only=True):
    """``signature`` is by the key of the lapsed ``certificate`` (ECDSA with SHA-256, DER) over ``proof_bytes``."""

    certificate: Pem
    csr: Pem
    nonce: RandomId
    signature: Annotated[bytes, Meta(max_length=512)]


class Issued(Message, frozen=True, kw_only=True):
    """Who the frame is now. ``ca`` holds every authority it should trust, ``mqtt`` the broker's address."""

    frame_id: FrameId
    hardware: Word
    locale: Word
    certificate: Pem
    ca: Pem
    mqtt: Annotated[str, Meta(max_length=300)] | None = None


def proof_bytes(nonce: str, csr: str) -> bytes:
    """What the old key signs."""
    return signed_bytes(RENEWAL_TYPE, f"{nonce}\n{csr}".encode())
