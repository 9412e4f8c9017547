"""The adapter file: safetensors with the fp16 factors and the base model it is bound to.

The layout is safetensors' own, so any tool of that format reads an adapter: eight bytes with the header's length, the
header (JSON), the tensors. It is parsed here, strictly, because an adapter comes from outside: only the tensors the
bundle declares, in their declared shape, without gaps, are accepted, and no length is believed before it was compared
with the file's. Every check runs before a single value reaches a runtime.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agent.bundle_manifest import AdapterSignature, AdapterTensor, FloatArray

FORMAT = "framefleet-adapter-1"
MAX_ADAPTER_BYTES = 16 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
_ALIGN = 8
_METADATA = "__metadata__"


class AdapterError(ValueError):
    """The adapter cannot be used; the message is one sentence that says why."""


class WrongBaseModel(AdapterError):
    """The adapter was trained for another base model."""


@dataclass(frozen=True)
class Adapter:
    """A checked LoRA delta. `tensors` are the packed factors as float32, read-only, in the bundle's shapes."""

    name: str
    segment: str
    rank: int
    base_model: str
    sha256: str
    tensors: Mapping[str, FloatArray] = field(repr=False, compare=False)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Metadata(msgspec.Struct, frozen=True):
    format: str
    base_model: str
    rank: str
    name: str
    segment: str


def load(source: Path | str | bytes, bundle_sha256: str, signature: AdapterSignature) -> Adapter:
    """Read an adapter (a path or its bytes) and check that it belongs to this bundle. Raises AdapterError."""
    content = source if isinstance(source, bytes) else _read(Path(source))
    if len(content) > MAX_ADAPTER_BYTES:
        raise AdapterError(f"This adapter is larger than {MAX_ADAPTER_BYTES} bytes.")
    metadata, entries, data = _split(content)
    if metadata.format != FORMAT:
        raise AdapterError(f"This adapter has the format {metadata.format!r}; {FORMAT} is needed.")
    if metadata.base_model != bundle_sha256:
        raise WrongBaseModel(
            f"This adapter was trained for the base model {metadata.base_model[:12]}, not for {bundle_sha256[:12]}."
        )
    if metadata.rank != str(signature.rank):
        raise AdapterError(f"This adapter has rank {metadata.rank}; this base model takes rank {signature.rank}.")
    declared = {tensor.name for tensor in signature.tensors}
    if entries.keys() != declared:
        raise AdapterError(f"This adapter must hold the tensors {', '.join(sorted(declared))} and no others.")
    _check_offsets(entries, len(data))
    tensors = {tensor.name: _tensor(tensor, entries[tensor.name], data) for tensor in signature.tensors}
    digest = hashlib.sha256(content).hexdigest()
    return Adapter(metadata.name, metadata.segment, signature.rank, bundle_sha256, digest, tensors)


def pack(tensors: Mapping[str, FloatArray], *, base_model: str, rank: int, name: str, segment: str) -> bytes:
    """Write an adapter file: the same tensors and words always give the same bytes. Values become fp16."""
    metadata = {
        "format": FORMAT, "base_model": base_model, "rank": str(rank), "name": name, "segment": segment,
    }  # fmt: skip
    header: dict[str, Any] = {_METADATA: metadata}
    parts: list[bytes] = []
    position = 0
    for key in sorted(tensors):
        part = np.ascontiguousarray(tensors[key], dtype="<f2").tobytes()
        end = position + len(part)
        header[key] = {"dtype": "F16", "shape": list(tensors[key].shape), "data_offsets": [position, end]}
        parts.append(part)
        position = end
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % _ALIGN)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than allowed tells "too large" without reading an endless file.
            return file.read(MAX_ADAPTER_BYTES + 1)
    except OSError as error:
        raise AdapterError(f"The adapter cannot be read: {error.strerror or error}.") from error


def _split(content: bytes) -> tuple[_Metadata, dict[str, _Entry], bytes]:
    if len(content) < _ALIGN:
        raise AdapterError("This file is not an adapter: it ends before its header.")
    (length,) = struct.unpack_from("<Q", content)
    if length > MAX_HEADER_BYTES:
        raise AdapterError(f"This file is not an adapter: its header claims {length} bytes.")
    if length > len(content) - _ALIGN:
        raise AdapterError("This adapter is cut off: it ends inside its header.")
    try:
        raw = msgspec.json.decode(content[_ALIGN : _ALIGN + length], type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(raw.pop(_METADATA, b"{}"), type=_Metadata)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterError(f"This adapter's header cannot be understood: {error}.") from error
    return metadata, entries, content[_ALIGN + length :]


def _check_offsets(entries: Mapping[str, _Entry], length: int) -> None:
    position = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.data_offsets):
        start, end = entry.data_offsets
        if start != position or end < start:
            raise AdapterError("This adapter's tensors overlap or leave gaps.")
        position = end
    if position > length:
        raise AdapterError("This adapter is cut off: it ends inside its tensors.")
    if position < length:
        raise AdapterError("This adapter has bytes after its last tensor.")


def _tensor(declared: AdapterTensor, entry: _Entry, data: bytes) -> FloatArray:
    start, end = entry.data_offsets
    if entry.dtype != "F16" or entry.shape != declared.shape or end - start != 2 * math.prod(declared.shape):
        raise AdapterError(f"This adapter's {declared.name} must be {list(declared.shape)} values of fp16.")
    values = np.frombuffer(data[start:end], dtype="<f2").astype(np.float32).reshape(declared.shape)
    if not np.isfinite(values).all():
        raise AdapterError(f"This adapter's {declared.name} holds values that are not finite.")
    if values.min() < declared.minimum or values.max() > declared.maximum:
        raise AdapterError(
            f"This adapter's {declared.name} reaches from {values.min():.3f} to {values.max():.3f}; the base model"
            f" allows {declared.minimum:g} to {declared.maximum:g}."
        )
    values.flags.writeable = False
    return values
