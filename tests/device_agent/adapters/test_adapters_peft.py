import math
import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from device_agent.adapters import Adapter, AdapterError, load
from device_agent.adapters.peft import pack_peft, read_peft, read_peft_folder, unpack_peft, write_peft
from device_agent.bundle.manifest import AdapterSignature, AdapterSlot, AdapterTensor, FloatArray
from tests.reference_model.artifacts import ADAPTER, bundle

BASE = "ab" * 32
SENTENCE = re.compile(r"^[A-Z/].*[.]$", re.DOTALL)
SIZES = {"input": (5, 4), "layer0.up": (4, 6), "output": (6, 3)}


def signature_of(sizes: dict[str, tuple[int, int]], rank: int, limit: float = 1.0) -> AdapterSignature:
    slots: list[AdapterSlot] = []
    a = b = 0
    for name, (inputs, outputs) in sizes.items():
        slots.append(AdapterSlot(name=name, inputs=inputs, outputs=outputs, a_start=a, b_start=b))
        a, b = a + inputs, b + outputs
    tensors = (
        AdapterTensor(name="A_all", shape=(a, rank), minimum=-limit, maximum=limit),
        AdapterTensor(name="B_all", shape=(rank, b), minimum=-limit, maximum=limit),
    )
    return AdapterSignature(rank=rank, tensors=tensors, slots=tuple(slots))


SIGNATURE = signature_of(SIZES, rank=2)


def factors(rank: int = 2, modules: tuple[str, ...] = tuple(SIZES), seed: int = 1) -> dict[str, FloatArray]:
    """PEFT's tensors; the values survive fp16 and bf16 unchanged, also when scaled by a power of two."""
    draw = np.random.default_rng(seed)
    made: dict[str, FloatArray] = {}
    for name in modules:
        inputs, outputs = SIZES[name]
        for factor, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            made[f"base_model.model.{name}.lora_{factor}.weight"] = (draw.integers(-16, 17, shape) / 64).astype("<f4")
    return made


def config(**changed: Any) -> bytes:
    said = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": list(SIZES), "bias": "none",
        "use_rslora": False, "use_dora": False, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
        "init_lora_weights": True, "peft_version": "0.21.2",
    }  # fmt: skip
    return msgspec.json.encode({**said, **changed})


def packed(weights: bytes | dict[str, FloatArray] | None = None, said: bytes | None = None, **words: str) -> bytes:
    content = weights if isinstance(weights, bytes) else save_safetensors(factors() if weights is None else weights)
    named = {"name": "fix", "segment": "somewhere", **words}
    return pack_peft(content, config() if said is None else said, base_model=BASE, signature=SIGNATURE, **named)


def loaded(weights: dict[str, FloatArray] | None = None, said: bytes | None = None) -> Adapter:
    return load(packed(weights, said), BASE, SIGNATURE)


def refused(weights: bytes | dict[str, FloatArray] | None = None, said: bytes | None = None, **words: str) -> str:
    with pytest.raises(AdapterError) as caught:
        packed(weights, said, **words)
    assert SENTENCE.match(str(caught.value)), str(caught.value)
    return str(caught.value)


def delta(adapter: Adapter, module: str) -> FloatArray:
    """What the packed adapter adds to a module's weights, (inputs, outputs)."""
    slot = next(slot for slot in SIGNATURE.slots if slot.name == module)
    a = adapter.tensors["A_all"][slot.a_start : slot.a_start + slot.inputs]
    return a @ adapter.tensors["B_all"][:, slot.b_start : slot.b_start + slot.outputs]


def expected_delta(tensors: dict[str, FloatArray], module: str, scale: float) -> FloatArray:
    stem = f"base_model.model.{module}.lora_"
    return np.asarray((tensors[f"{stem}B.weight"] @ tensors[f"{stem}A.weight"] * scale).T)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 1.0),
        ({"lora_alpha": 4}, 2.0),
        ({"lora_alpha": 0.5}, 0.25),
        ({"lora_alpha": 2, "use_rslora": True}, math.sqrt(2)),
        ({"target_modules": "all-linear"}, 1.0),
    ],
)
def test_every_module_gets_its_factors_with_the_scale_of_its_config(changes: dict[str, Any], scale: float) -> None:
    adapter = loaded(said=config(**changes))
    for module in SIZES:
        assert np.allclose(delta(adapter, module), expected_delta(factors(), module, scale), atol=1e-3)
        assert np.abs(delta(adapter, module)).max() > 0.01


def test_modules_that_were_not_trained_are_zero() -> None:
    adapter = loaded(factors(modules=("layer0.up",)), config(target_modules=["up"]))
    assert np.array_equal(delta(adapter, "layer0.up"), expected_delta(factors(modules=("layer0.up",)), "layer0.up", 1))
    assert not adapter.tensors["A_all"][:5].any()
    assert not adapter.tensors["B_all"][:, 10:].any()


def test_a_smaller_rank_is_padded_with_zeros() -> None:
    tensors = factors(rank=1)
    adapter = loaded(tensors, config(r=1, lora_alpha=1))
    assert adapter.rank == 2
    assert not adapter.tensors["A_all"][:, 1].any()
    assert not adapter.tensors["B_all"][1].any()
    assert np.array_equal(delta(adapter, "input"), expected_delta(tensors, "input", 1.0))


def test_a_larger_rank_is_refused() -> None:
    assert "at most 2: train with a smaller r" in refused(factors(rank=3), config(r=3))


def of_type(dtype: str, tensors: dict[str, FloatArray]) -> bytes:
    """A safetensors file in F32, F16 or BF16; bf16 is the upper half of float32."""
    if dtype != "BF16":
        return save_safetensors(
            {name: values.astype({"F32": "<f4", "F16": "<f2"}[dtype]) for name, values in tensors.items()}
        )
    header: dict[str, Any] = {}
    data = b""
    for name, values in tensors.items():
        part = (np.ascontiguousarray(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = msgspec.json.encode(header)
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_floating_type_that_peft_saves_is_read(dtype: str) -> None:
    assert packed(of_type(dtype, factors())) == packed()


def test_whole_numbers_are_refused() -> None:
    whole = {name: values.astype(np.int32) for name, values in factors().items()}
    assert "F32, F16 or BF16" in refused(save_safetensors(whole))


def test_the_same_files_give_the_same_bytes() -> None:
    shuffled = save_safetensors(dict(reversed(factors().items())), {"format": "pt"})
    assert packed(shuffled) == packed()


def test_an_adapter_written_back_for_peft_packs_to_the_same_bytes() -> None:
    content = packed(said=config(lora_alpha=4))
    weights, said = unpack_peft(content, BASE, SIGNATURE)
    assert packed(weights, said) == content
    tensors = load_safetensors(weights)
    assert {name: values.shape for name, values in tensors.items()} == {
        name: values.shape for name, values in factors().items()
    }
    assert msgspec.json.decode(said)["lora_alpha"] == msgspec.json.decode(said)["r"] == 2


def test_the_committed_adapter_survives_the_way_through_peft() -> None:
    content, signature = ADAPTER.read_bytes(), bundle().manifest.adapter
    weights, said = unpack_peft(content, bundle().sha256, signature)
    again = pack_peft(
        weights, said, base_model=bundle().sha256, signature=signature, name="mandarin", segment="mandarin"
    )
    assert again == content


@st.composite
def peft_adapters(draw: st.DrawFn) -> tuple[AdapterSignature, dict[str, FloatArray]]:
    names = draw(st.lists(st.from_regex(r"[a-z]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True), min_size=1, unique=True))
    sizes = {name: (draw(st.integers(1, 6)), draw(st.integers(1, 6))) for name in names[:5]}
    rank = draw(st.integers(1, 4))
    signature = signature_of(sizes, rank, limit=8.0)
    values = np.random.default_rng(draw(st.integers(0, 2**32)))
    tensors = {
        tensor.name: values.uniform(-8, 8, tensor.shape).astype(np.float16).astype(np.float32)
        for tensor in signature.tensors
    }
    return signature, tensors


@settings(max_examples=60, deadline=None)
@given(peft_adapters())
def test_packed_factors_of_any_model_survive_the_way_through_peft(
    given_adapter: tuple[AdapterSignature, dict[str, FloatArray]],
) -> None:
    signature, tensors = given_adapter
    weights, said = write_peft(tensors, signature)
    content = pack_peft(weights, said, base_model=BASE, signature=signature, name="fix", segment="somewhere")
    adapter = load(content, BASE, signature)
    for name, values in tensors.items():
        assert np.array_equal(adapter.tensors[name], values)
    assert read_peft(weights, said).modules.keys() == {slot.name for slot in signature.slots}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_are_packed_within_their_ranges_or_refused(data: st.DataObject) -> None:
    files = [bytearray(save_safetensors(factors())), bytearray(config())]
    for _ in range(data.draw(st.integers(1, 4))):
        content = files[data.draw(st.sampled_from([0, 0, 1]))]
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        adapter = load(packed(bytes(files[0]), bytes(files[1])), BASE, SIGNATURE)
    except AdapterError as refusal:
        assert SENTENCE.match(str(refusal))
    else:
        assert max(np.abs(values).max() for values in adapter.tensors.values()) <= 1.0


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["peft_type", "r", "lora_alpha", "target_modules", "bias", "use_rslora", "init_lora_weights"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=5)),
    )
)
def test_a_config_of_anything_is_packed_or_refused(changes: dict[str, Any]) -> None:
    try:
        packed(said=config(**changes))
    except AdapterError as refusal:
        assert SENTENCE.match(str(refusal))


def test_a_cut_at_any_byte_is_refused() -> None:
    weights, said = save_safetensors(factors(modules=("input",))), config(target_modules=["input"])
    for length in range(len(weights)):
        refused(weights[:length], said)
    for length in range(len(said)):
        refused(weights, said[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "LOHA"},
        {"bias": "all"},
        {"use_dora": True},
        {"modules_to_save": ["output"]},
        {"rank_pattern": {"up": 1}},
        {"alpha_pattern": {"up": 1}},
        {"lora_bias": True},
        {"layer_replication": [[0, 1]]},
        {"init_lora_weights": "pissa_niter_16"},
        {"init_lora_weights": "olora"},
        {"r": 0},
        {"r": -2},
        {"r": 10**30},
        {"lora_alpha": 10**400},
        {"r": "2"},
    ],
)
def test_a_config_that_cannot_be_packed_is_refused(changes: dict[str, Any]) -> None:
    refused(said=config(**changes))


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.output.lora_magnitude_vector",
        "base_model.model.output.lora_B.bias",
        "base_model.model.output.weight",
        "base_model.model.output.lora_embedding_A",
        "layer0.up.lora_A.weight",
        "\x1b[2J",
    ],
)
def test_tensors_beyond_the_factors_are_refused(name: str) -> None:
    sentence = refused({**factors(), name: np.zeros((2, 2), np.float32)})
    assert "no factor of plain LoRA" in sentence
    assert sentence.isprintable()


def test_modules_that_the_base_model_does_not_offer_are_refused() -> None:
    renamed = {name.replace("output", "head"): values for name, values in factors().items()}
    sentence = refused(renamed, config(target_modules=["input", "up", "head"]))
    assert "no factors for head" in sentence
    assert "input, layer0.up, output" in sentence


def test_a_module_with_one_factor_is_refused() -> None:
    tensors = factors()
    del tensors["base_model.model.output.lora_B.weight"]
    assert "only one of lora_A and lora_B" in refused(tensors)


def test_a_config_of_another_training_is_refused() -> None:
    assert "with r = 1" in refused(said=config(r=1))
    assert "does not target output" in refused(said=config(target_modules=["input", "up"]))
    assert "targets output" in refused(factors(modules=("input", "layer0.up")))


def test_another_size_of_a_module_is_refused() -> None:
    tensors = factors()
    tensors["base_model.model.input.lora_A.weight"] = np.zeros((2, 7), np.float32)
    assert "has 5 inputs and 4 outputs in this base model, not 7 and 4" in refused(tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    tensors = factors()
    tensors["base_model.model.output.lora_A.weight"][0, 1] = value
    assert "not finite" in refused(tensors)


@pytest.mark.parametrize("value", [1.01, -1.0009, 1e5, 1e30])
def test_values_out_of_the_declared_range_are_refused_with_their_module(value: float) -> None:
    tensors = factors()
    tensors["base_model.model.output.lora_A.weight"][0, 1] = value
    sentence = refused(tensors)
    assert "In output, lora_A" in sentence
    assert "allows -1 to 1: clamp the factors while training" in sentence


def test_the_range_is_that_of_the_scaled_factors() -> None:
    assert "lora_B times its scale 8" in refused(said=config(lora_alpha=16))


def test_the_range_is_that_of_the_rounded_values() -> None:
    """1.0004 becomes 1.0 in fp16, 0.1 becomes 0.09998: what counts is what the file holds."""
    tensors = factors()
    tensors["base_model.model.output.lora_A.weight"][0, 1] = 1.0004
    assert loaded(tensors).tensors["A_all"].max() == 1.0
    tight = signature_of(SIZES, rank=2, limit=0.30001)
    content = save_safetensors({name: np.clip(values, -0.25, 0.25) for name, values in factors().items()})
    pack_peft(content, config(), base_model=BASE, signature=tight, name="fix", segment="somewhere")
    over = {name: np.full_like(values, 0.30001) for name, values in factors().items()}
    with pytest.raises(AdapterError, match="clamp"):
        # Within the range before rounding, 0.3000488 after it.
        pack_peft(save_safetensors(over), config(), base_model=BASE, signature=tight, name="fix", segment="s")


def test_names_must_be_printable_and_short() -> None:
    assert "1 to 64 characters" in refused(name="")
    assert "segment" in refused(segment="a\nb")
    assert "name" in refused(name="x" * 65)


def test_a_base_model_without_slots_takes_no_adapters() -> None:
    nothing = AdapterSignature(rank=2, tensors=(), slots=())
    with pytest.raises(AdapterError, match="takes no adapters"):
        pack_peft(
            save_safetensors(factors()), config(), base_model=BASE, signature=nothing, name="fix", segment="somewhere"
        )


def test_a_folder_as_peft_saves_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(save_safetensors(factors()))
    (tmp_path / "adapter_config.json").write_bytes(config())
    (tmp_path / "README.md").write_text("")
    assert packed(*read_peft_folder(tmp_path)) == packed()


def test_a_folder_without_the_files_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"holds no adapter_model\.safetensors"):
        read_peft_folder(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(AdapterError, match="safe_serialization=True"):
        read_peft_folder(tmp_path)


def test_a_huge_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    with (tmp_path / "adapter_model.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "adapter_config.json").write_bytes(config())
    assert "larger than" in refused(*read_peft_folder(tmp_path))
