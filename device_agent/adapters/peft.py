"""PEFT's adapters, the way they come from training: packed into an adapter file, and written back.

A PEFT adapter is two files: `adapter_config.json` and `adapter_model.safetensors`, in which each trained module has
`base_model.model.<module>.lora_A.weight` (r, inputs) and `.lora_B.weight` (outputs, r). What it adds to the module is
x @ A^T @ B^T * scale, with scale = lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA. Packed, A^T lies in the rows
and B^T * scale in the columns of the module's AdapterSlot; modules left out are zeros.

Only plain LoRA on linear layers fits into two factors. Whatever else a config or a file carries is refused, because
leaving it out silently would play another model than the one that was trained.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from device_agent.adapters import safetensors
from device_agent.adapters.codec import load, pack, read_bytes
from device_agent.adapters.errors import AdapterError
from device_agent.adapters.peft_config import MAX_CONFIG_BYTES, PeftConfig, read_config
from device_agent.adapters.safetensors import shown, shown_names
from device_agent.bundle.manifest import AdapterSignature, AdapterSlot, FloatArray

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
MAX_WEIGHTS_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 256 * 1024

_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


@dataclass(frozen=True)
class ModuleFactors:
    """What a PEFT adapter holds for one module: `a` (r, inputs) and `b` (outputs, r), float32, scale not applied."""

    a: FloatArray
    b: FloatArray


@dataclass(frozen=True)
class PeftAdapter:
    """A PEFT adapter, read and checked as far as that goes without a base model."""

    rank: int
    scale: float
    modules: Mapping[str, ModuleFactors]


def read_peft_folder(folder: Path) -> tuple[bytes, bytes]:
    """The two files of a PEFT adapter as (weights, config), bounded. Raises AdapterError."""
    if not (folder / WEIGHTS_FILE).is_file() and (folder / "adapter_model.bin").is_file():
        raise AdapterError(f"{folder} holds a pickle; save it from PEFT with safe_serialization=True.")
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder} holds no {name}: give the folder that PEFT's save_pretrained wrote.")
    return (
        read_bytes(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES),
        read_bytes(folder / CONFIG_FILE, MAX_CONFIG_BYTES),
    )


def read_peft(weights: bytes, config: bytes) -> PeftAdapter:
    """Read a PEFT adapter from the bytes of its two files. Raises AdapterError."""
    said = read_config(config)
    if len(weights) > MAX_WEIGHTS_BYTES:
        raise AdapterError(f"This {WEIGHTS_FILE} is larger than {MAX_WEIGHTS_BYTES} bytes.")
    parts = safetensors.split(weights, MAX_HEADER_BYTES)
    found: dict[str, dict[str, FloatArray]] = {}
    for name in parts.entries:
        match = _NAME.fullmatch(name)
        if match is None:
            raise AdapterError(
                f"The tensor {shown(name)} is no factor of plain LoRA on a linear layer; train with nothing else."
            )
        found.setdefault(match["module"], {})[match["factor"]] = safetensors.values(name, parts)
    if not found:
        raise AdapterError(f"This {WEIGHTS_FILE} holds no factors; save the adapter again.")
    modules = {name: _module(name, factors, said.r) for name, factors in sorted(found.items())}
    _check_targets(said, modules)
    return PeftAdapter(said.r, said.scale, modules)


def pack_peft(
    weights: bytes, config: bytes, *, base_model: str, signature: AdapterSignature, name: str, segment: str
) -> bytes:
    """Pack a PEFT adapter for the base model with this SHA-256 (hex) and signature.

    The result loads on every frame that has the base model. The same files always give the same bytes. Raises
    AdapterError with one sentence that says what to do.
    """
    adapter = read_peft(weights, config)
    tensors = _place(adapter, signature)
    packed = pack(tensors, base_model=base_model, rank=signature.rank, name=name, segment=segment)
    # The frame's own checks have the last word.
    load(packed, base_model, signature)
    return packed


def write_peft(tensors: Mapping[str, FloatArray], signature: AdapterSignature) -> tuple[bytes, bytes]:
    """Packed factors (any float dtype, the signature's shapes) as PEFT's (weights, config): F32, lora_alpha = r."""
    first, second = _packed_names(signature)
    a_all, b_all = tensors[first], tensors[second]
    factors: dict[str, FloatArray] = {}
    for slot in signature.slots:
        stem = f"base_model.model.{slot.name}.lora_"
        factors[f"{stem}A.weight"] = a_all[slot.a_start : slot.a_start + slot.inputs].T
        factors[f"{stem}B.weight"] = b_all[:, slot.b_start : slot.b_start + slot.outputs].T
    config = {
        "peft_type": "LORA", "r": signature.rank, "lora_alpha": signature.rank, "lora_dropout": 0.0, "bias": "none",
        "use_rslora": False, "use_dora": False, "fan_in_fan_out": False, "inference_mode": True,
        "init_lora_weights": True, "modules_to_save": None, "task_type": None, "base_model_name_or_path": None,
        "target_modules": [slot.name for slot in signature.slots],
    }  # fmt: skip
    text = msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
    return safetensors.join(factors, "F32", {"format": "pt"}), text


def unpack_peft(content: bytes, base_model: str, signature: AdapterSignature) -> tuple[bytes, bytes]:
    """An adapter file as PEFT's (weights, config); packing them again gives the same factors. Raises AdapterError."""
    return write_peft(load(content, base_model, signature).tensors, signature)


def _module(name: str, factors: Mapping[str, FloatArray], rank: int) -> ModuleFactors:
    if factors.keys() != {"A", "B"}:
        raise AdapterError(f"The module {shown(name)} has only one of lora_A and lora_B; save the adapter again.")
    a, b = factors["A"], factors["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise AdapterError(
            f"The factors of {shown(name)} have shapes {list(a.shape)} and {list(b.shape)}, not [r, inputs] and"
            f" [outputs, r] with r = {rank}; take both files from one training of linear layers."
        )
    return ModuleFactors(a, b)


def _check_targets(config: PeftConfig, modules: Mapping[str, ModuleFactors]) -> None:
    """A list of target modules must be served by the file, and the file by the list; a pattern may say anything."""
    if not isinstance(config.target_modules, list):
        return
    targets = config.target_modules
    stray = [name for name in modules if not any(_is_target(name, target) for target in targets)]
    if stray:
        raise AdapterError(
            f"Its {CONFIG_FILE} does not target {shown_names(stray)}; take both files from one training."
        )
    missing = [target for target in targets if not any(_is_target(name, target) for name in modules)]
    if missing:
        raise AdapterError(
            f"Its {CONFIG_FILE} targets {shown_names(missing)}, but no factors are there; save it again."
        )


def _is_target(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _packed_names(signature: AdapterSignature) -> tuple[str, str]:
    if len(signature.tensors) != 2:
        raise AdapterError("This base model takes no adapters; choose a bundle that declares adapter slots.")
    return signature.tensors[0].name, signature.tensors[1].name


def _place(adapter: PeftAdapter, signature: AdapterSignature) -> dict[str, FloatArray]:
    """The packed factors as fp16 will hold them."""
    first, second = _packed_names(signature)
    slots = {slot.name: slot for slot in signature.slots}
    unknown = [name for name in adapter.modules if name not in slots]
    if unknown:
        raise AdapterError(
            f"This base model takes no factors for {shown_names(unknown)}; choose target_modules among"
            f" {shown_names(list(slots), most=8)}, named as in the bundle's adapter.slots."
        )
    if adapter.rank > signature.rank:
        raise AdapterError(
            f"This adapter has rank {adapter.rank}; this base model takes at most {signature.rank}: train with a"
            f" smaller r."
        )
    declared = {tensor.name: tensor for tensor in signature.tensors}
    placed = {name: np.zeros(tensor.shape, dtype=np.float32) for name, tensor in declared.items()}
    for name, factors in adapter.modules.items():
        slot = slots[name]
        _check_sizes(slot, factors)
        rows = slice(slot.a_start, slot.a_start + slot.inputs)
        columns = slice(slot.b_start, slot.b_start + slot.outputs)
        a = _as_fp16(factors.a, 1.0)
        b = _as_fp16(factors.b, adapter.scale)
        for said, values, tensor in (("lora_A", a, declared[first]), (_scaled(adapter.scale), b, declared[second])):
            if values.min() < tensor.minimum or values.max() > tensor.maximum:
                raise AdapterError(
                    f"In {shown(name)}, {said} reaches from {values.min():.4g} to {values.max():.4g}; this base model"
                    f" allows {tensor.minimum:g} to {tensor.maximum:g}: clamp the factors while training, or choose a"
                    " smaller lora_alpha."
                )
        placed[first][rows, : adapter.rank] = a.T
        placed[second][: adapter.rank, columns] = b.T
    return placed


def _check_sizes(slot: AdapterSlot, factors: ModuleFactors) -> None:
    if (factors.a.shape[1], factors.b.shape[0]) != (slot.inputs, slot.outputs):
        raise AdapterError(
            f"The module {slot.name} has {slot.inputs} inputs and {slot.outputs} outputs in this base model, not"
            f" {factors.a.shape[1]} and {factors.b.shape[0]}; train the adapter on this base model."
        )


def _as_fp16(values: FloatArray, scale: float) -> FloatArray:
    """Scaled and rounded as the file will hold them; too large for fp16 is infinite and so out of any range."""
    with np.errstate(over="ignore", under="ignore"):
        return (values.astype(np.float64) * scale).astype(np.float16).astype(np.float32)


def _scaled(scale: float) -> str:
    return "lora_B" if scale == 1.0 else f"lora_B times its scale {scale:g}"
