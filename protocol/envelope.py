"""A signed payload: the DSSE envelope (https://github.com/secure-systems-lab/dsse, protocol version 1).

Only the bytes that get signed are made here; keys and signatures are the business of ``cryptography`` on either side.
"""

from typing import Annotated

from msgspec import Meta, Struct

DESIRED_STATE_TYPE = "application/vnd.framefleet.desired-state.v1+json"
SIGNED_TIME_TYPE = "application/vnd.framefleet.signed-time.v1+json"
RENEWAL_TYPE = "application/vnd.framefleet.renewal.v1"
"""What the key of a lapsed certificate signs; see ``protocol.birth``."""


class Signature(Struct, frozen=True):
    """``keyid`` is the TUF key id of the signer, ``sig`` the raw Ed25519 signature (64 bytes, base64 on the wire)."""

    keyid: Annotated[str, Meta(max_length=128)]
    sig: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Envelope(Struct, frozen=True, rename="camel"):
    """``payload`` is opaque bytes (base64 on the wire): what was signed is what is parsed, never a re-encoding."""

    payload_type: Annotated[str, Meta(max_length=128)]
    payload: bytes
    signatures: Annotated[list[Signature], Meta(min_length=1, max_length=8)]


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what a signature covers, type included."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
