"""Safetensors, read strictly: the file format of packed adapters and of PEFT's.

Eight bytes with the header's length, the header (JSON), the tensors. It is parsed here because an adapter comes from
outside: no length is believed before it was compared with the file's, tensors may neither overlap nor leave gaps, and
nothing may follow the last one. Every check runs before a value is looked at.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from device_agent.adapters.errors import AdapterError
from device_agent.bundle.manifest import FloatArray

_ALIGN = 8
_METADATA = "__metadata__"
_VALUE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor as the header describes it; `data_offsets` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class Parts(NamedTuple):
    """A file taken apart: the header's words (JSON), its tensors, and their bytes."""

    metadata: bytes
    entries: Mapping[str, Entry]
    data: bytes


def split(content: bytes, max_header: int) -> Parts:
    """Take a file apart. Raises AdapterError."""
    if len(content) < _ALIGN:
        raise AdapterError("This file is not an adapter: it ends before its header.")
    (length,) = struct.unpack_from("<Q", content)
    if length > max_header:
        raise AdapterError(f"This file is not an adapter: its header claims {length} bytes.")
    if length > len(content) - _ALIGN:
        raise AdapterError("This adapter is cut off: it ends inside its header.")
    try:
        raw = msgspec.json.decode(content[_ALIGN : _ALIGN + length], type=dict[str, msgspec.Raw])
        metadata = bytes(raw.pop(_METADATA, b"{}"))
        entries = {name: msgspec.json.decode(entry, type=Entry) for name, entry in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterError(f"This adapter's header cannot be understood: {error}.") from error
    data = content[_ALIGN + length :]
    _check_offsets(entries.values(), len(data))
    return Parts(metadata, entries, data)


def values(name: str, parts: Parts) -> FloatArray:
    """The values of one tensor as float32, in its declared shape. Raises AdapterError."""
    entry = parts.entries[name]
    size = _VALUE_BYTES.get(entry.dtype)
    if size is None:
        raise AdapterError(
            f"This adapter's {shown(name)} holds {shown(entry.dtype)}; save it as F32, F16 or BF16 instead."
        )
    start, end = entry.data_offsets
    if any(length < 0 for length in entry.shape) or end - start != size * math.prod(entry.shape):
        raise AdapterError(f"This adapter's {shown(name)} has other bytes than its shape and type need.")
    data = parts.data[start:end]
    if entry.dtype == "BF16":
        # The upper half of a float32.
        found = (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        found = np.frombuffer(data, dtype=f"<f{size}").astype(np.float32)
    if not np.isfinite(found).all():
        raise AdapterError(f"This adapter's {shown(name)} holds values that are not finite.")
    return found.reshape(entry.shape)


def join(tensors: Mapping[str, FloatArray], dtype: str, metadata: Mapping[str, str]) -> bytes:
    """Write a file of F32 or F16 values: the same tensors and words always give the same bytes."""
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    data: list[bytes] = []
    position = 0
    for name in sorted(tensors):
        part = np.ascontiguousarray(tensors[name], dtype=f"<f{_VALUE_BYTES[dtype]}").tobytes()
        end = position + len(part)
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [position, end]}
        data.append(part)
        position = end
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % _ALIGN)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def shown(name: str) -> str:
    """A name from a file as it may stand in a sentence: short, and without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:80])


def shown_names(names: Sequence[str], most: int = 4) -> str:
    """The first names of a long list."""
    said = ", ".join(shown(name) for name in names[:most])
    return said if len(names) <= most else f"{said} and {len(names) - most} more"


def _check_offsets(entries: Any, length: int) -> None:
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.data_offsets):
        start, end = entry.data_offsets
        if start != position or end < start:
            raise AdapterError("This adapter's tensors overlap or leave gaps.")
        position = end
    if position > length:
        raise AdapterError("This adapter is cut off: it ends inside its tensors.")
    if position < length:
        raise AdapterError("This adapter has bytes after its last tensor.")
