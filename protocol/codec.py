"""Bytes to messages and back. Decoding never raises anything but Refused, and never reads more than the limit."""

from typing import TypeVar

import msgspec

from protocol.errors import Reason, Refused
from protocol.limits import MAX_MESSAGE

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="deterministic")
_decoders: dict[type, msgspec.json.Decoder[object]] = {}


def encode(message: msgspec.Struct) -> bytes:
    """The message as JSON, always the same bytes for the same message. Raises ValueError above MAX_MESSAGE."""
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"{type(message).__name__} of {len(data)} bytes exceeds {MAX_MESSAGE}: send less at once")
    return data


def decode(data: bytes, kind: type[T], *, limit: int = MAX_MESSAGE) -> T:
    """The message in ``data``. Raises Refused(BAD_MESSAGE) with one sentence when it is not a ``kind``."""
    name = getattr(kind, "__name__", "message")  # a union of messages has no name of its own
    if len(data) > limit:
        raise Refused(Reason.BAD_MESSAGE, f"{name} of {len(data)} bytes exceeds the limit of {limit}.")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[return-value]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(Reason.BAD_MESSAGE, f"Not a valid {name}: {error}.") from None
