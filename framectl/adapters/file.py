"""What an adapter file says about itself, read without trusting any length in it.

`release sign` must run where neither numpy nor a runtime is installed, so it reads this one word without the model
parts; that the adapter loads is for `framectl adapter inspect --bundle`, and for every frame.

Layout (safetensors): 8 bytes little-endian length, that many bytes of JSON whose ``__metadata__`` holds words, tensors.
"""

from pathlib import Path

import msgspec

from framectl.errors import CommandFailed
from protocol.messages import Sha256

MAX_HEADER = 64 * 1024


class _Metadata(msgspec.Struct, frozen=True):
    base_model: Sha256


class _Header(msgspec.Struct, frozen=True):
    metadata: _Metadata = msgspec.field(name="__metadata__")


def base_model_of(path: Path) -> str:
    """SHA-256 of the base model the adapter is bound to. Raises CommandFailed with one sentence."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= MAX_HEADER:
                raise CommandFailed(f"{path} is not an adapter: it does not begin with a safetensors header.")
            text = file.read(length)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(text) < length:
        raise CommandFailed(f"{path} is cut off inside its header: copy the adapter again.")
    try:
        return msgspec.json.decode(text, type=_Header).metadata.base_model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandFailed(f"{path} is not an adapter: its header names no base model ({error}).") from None
