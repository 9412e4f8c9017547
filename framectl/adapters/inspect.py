"""What an adapter file holds, in figures. Needs the model parts (`framefleet[model]`)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_agent.adapters import AdapterError, load
from device_agent.adapters.codec import read, read_bytes
from device_agent.adapters.safetensors import values
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import AdapterSignature, AdapterTensor, FloatArray


@dataclass(frozen=True)
class TensorFigures:
    """One tensor's values. `norm` is Frobenius'; `range_share` how much of the declared range they use, 1 for all."""

    name: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    norm: float
    range_share: float | None


@dataclass(frozen=True)
class ModuleFigures:
    """The Frobenius norm of what the adapter adds to one module's weights, and its share of the sum of squares."""

    name: str
    delta_norm: float
    share: float


@dataclass(frozen=True)
class Inspection:
    """An adapter file. Without a bundle there are no `modules`, no shares of ranges, and `fits` is None."""

    name: str
    segment: str
    rank: str
    base_model: str
    sha256: str
    length: int
    tensors: tuple[TensorFigures, ...]
    modules: tuple[ModuleFigures, ...]
    fits: bool | None
    refusal: str | None


def inspect(path: Path, bundle: Path | None) -> Inspection:
    """Read an adapter file and compare it with a bundle. Raises AdapterError or BundleError where one is unreadable."""
    content = read_bytes(path)
    words, parts = read(content)
    tensors = {name: values(name, parts) for name in sorted(parts.entries)}
    refusal = None
    modules: tuple[ModuleFigures, ...] = ()
    declared: dict[str, AdapterTensor] = {}
    if bundle is not None:
        with Bundle.open(bundle) as opened:
            signature, sha256 = opened.manifest.adapter, opened.sha256
        declared = {tensor.name: tensor for tensor in signature.tensors}
        try:
            load(content, sha256, signature)
        except AdapterError as error:
            refusal = str(error)
        modules = module_figures(tensors, signature)
    return Inspection(
        name=words.name,
        segment=words.segment,
        rank=words.rank,
        base_model=words.base_model,
        sha256=hashlib.sha256(content).hexdigest(),
        length=len(content),
        tensors=tuple(_tensor_figures(name, found, declared.get(name)) for name, found in tensors.items()),
        modules=modules,
        fits=None if bundle is None else refusal is None,
        refusal=refusal,
    )


def module_figures(tensors: dict[str, FloatArray], signature: AdapterSignature) -> tuple[ModuleFigures, ...]:
    """What the packed factors add to each module, largest first; nothing where their shapes are not the signature's."""
    if any(tensor.name not in tensors or tensors[tensor.name].shape != tensor.shape for tensor in signature.tensors):
        return ()
    if not signature.slots:
        return ()
    a_all, b_all = (tensors[tensor.name].astype(np.float64) for tensor in signature.tensors)
    squares: dict[str, float] = {}
    for slot in signature.slots:
        a = a_all[slot.a_start : slot.a_start + slot.inputs]
        b = b_all[:, slot.b_start : slot.b_start + slot.outputs]
        # |AB|^2 = trace(A^T A B B^T): rank x rank products instead of the whole delta. Rounding may go below zero.
        squares[slot.name] = max(0.0, float(((a.T @ a) * (b @ b.T)).sum()))
    total = sum(squares.values())
    largest_first = sorted(squares.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ModuleFigures(name, square**0.5, square / total if total else 0.0) for name, square in largest_first)


def _tensor_figures(name: str, found: FloatArray, declared: AdapterTensor | None) -> TensorFigures:
    lowest, highest = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
    share = None
    if declared is not None and declared.maximum > declared.minimum:
        middle = (declared.maximum + declared.minimum) / 2
        share = max(highest - middle, middle - lowest) / (declared.maximum - middle)
    norm = float(np.sqrt(np.square(found, dtype=np.float64).sum()))
    return TensorFigures(name, found.shape, lowest, highest, norm, share)
