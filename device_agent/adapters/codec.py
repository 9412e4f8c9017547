"""The adapter file: safetensors with the packed fp16 factors and the base model they are bound to.

An adapter comes from outside: only the tensors the bundle declares, in their declared shape and range, are accepted,
and every check runs before a single value reaches a runtime. Any tool of safetensors reads the file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from device_agent.adapters import safetensors
from device_agent.adapters.errors import AdapterError, WrongBaseModel
from device_agent.bundle.manifest import AdapterSignature, AdapterTensor, FloatArray

FORMAT = "framefleet-adapter-1"
MAX_ADAPTER_BYTES = 16 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_WORD = 64
"""Characters in the name or the segment of an adapter."""


@dataclass(frozen=True)
class Adapter:
    """A checked LoRA delta. `tensors` are the packed factors as float32, read-only, in the bundle's shapes."""

    name: str
    segment: str
    rank: int
    base_model: str
    sha256: str
    tensors: Mapping[str, FloatArray] = field(repr=False, compare=False)


_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_WORD)]


class Words(msgspec.Struct, frozen=True):
    """What an adapter file says about itself."""

    format: str
    base_model: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    rank: str
    name: _Word
    segment: _Word


def load(source: Path | str | bytes, bundle_sha256: str, signature: AdapterSignature) -> Adapter:
    """Read an adapter (a path or its bytes) and check that it belongs to this bundle. Raises AdapterError."""
    content = source if isinstance(source, bytes) else read_bytes(Path(source))
    words, parts = read(content)
    if words.base_model != bundle_sha256:
        raise WrongBaseModel(
            f"This adapter was trained for the base model {words.base_model[:12]}, not for {bundle_sha256[:12]}."
        )
    if words.rank != str(signature.rank):
        raise AdapterError(
            f"This adapter has rank {safetensors.shown(words.rank)}; this base model takes rank {signature.rank}."
        )
    declared = {tensor.name for tensor in signature.tensors}
    if parts.entries.keys() != declared:
        raise AdapterError(f"This adapter must hold the tensors {', '.join(sorted(declared))} and no others.")
    tensors = {tensor.name: _tensor(tensor, parts) for tensor in signature.tensors}
    digest = hashlib.sha256(content).hexdigest()
    return Adapter(words.name, words.segment, signature.rank, bundle_sha256, digest, tensors)


def pack(tensors: Mapping[str, FloatArray], *, base_model: str, rank: int, name: str, segment: str) -> bytes:
    """Write an adapter file: the same tensors and words always give the same bytes. Values become fp16.

    Raises AdapterError where `name` or `segment` has not 1 to 64 characters that can be printed.
    """
    for kind, word in (("name", name), ("segment", segment)):
        if not 1 <= len(word) <= MAX_WORD or not word.isprintable():
            raise AdapterError(f"The {kind} of an adapter must have 1 to {MAX_WORD} characters that can be printed.")
    metadata = {
        "format": FORMAT, "base_model": base_model, "rank": str(rank), "name": name, "segment": segment,
    }  # fmt: skip
    return safetensors.join(tensors, "F16", metadata)


def rebind(content: bytes, base_model: str) -> bytes:
    """The same factors and words, bound to another base model's SHA-256 (hex). Raises AdapterError.

    Only right where the new bundle's motion is the old one's, as when a bundle gains a graph for another runtime.
    """
    words, parts = read(content)
    if not words.rank.isdecimal() or any(entry.dtype != "F16" for entry in parts.entries.values()):
        raise AdapterError("This adapter cannot be bound anew: it is damaged.")
    tensors = {name: safetensors.values(name, parts) for name in parts.entries}
    return pack(tensors, base_model=base_model, rank=int(words.rank), name=words.name, segment=words.segment)


def read(content: bytes) -> tuple[Words, safetensors.Parts]:
    """What an adapter file says and holds, before it is compared with a bundle. Raises AdapterError."""
    if len(content) > MAX_ADAPTER_BYTES:
        raise AdapterError(f"This adapter is larger than {MAX_ADAPTER_BYTES} bytes.")
    parts = safetensors.split(content, MAX_HEADER_BYTES)
    try:
        words = msgspec.json.decode(parts.metadata, type=Words)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterError(f"This adapter's header cannot be understood: {error}.") from error
    if words.format != FORMAT:
        raise AdapterError(f"This adapter has the format {safetensors.shown(words.format)!r}; {FORMAT} is needed.")
    return words, parts


def read_bytes(path: Path, limit: int = MAX_ADAPTER_BYTES) -> bytes:
    """At most one byte more than allowed: that tells "too large" without reading an endless file."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise AdapterError(f"The adapter cannot be read: {error.strerror or error}.") from error


def _tensor(declared: AdapterTensor, parts: safetensors.Parts) -> FloatArray:
    entry = parts.entries[declared.name]
    if entry.dtype != "F16" or entry.shape != declared.shape:
        raise AdapterError(f"This adapter's {declared.name} must be {list(declared.shape)} values of fp16.")
    values = safetensors.values(declared.name, parts)
    if values.min() < declared.minimum or values.max() > declared.maximum:
        raise AdapterError(
            f"This adapter's {declared.name} reaches from {values.min():.3f} to {values.max():.3f}; the base model"
            f" allows {declared.minimum:g} to {declared.maximum:g}."
        )
    values.flags.writeable = False
    return values
