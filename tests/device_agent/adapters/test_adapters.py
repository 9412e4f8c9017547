import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load as load_safetensors

from device_agent.adapters import MAX_ADAPTER_BYTES, Adapter, AdapterError, load, pack, rebind
from device_agent.bundle.manifest import AdapterSignature, AdapterSlot, AdapterTensor, FloatArray
from device_agent.runtime import OrtRuntime
from tests.reference_model.artifacts import ADAPTER, bundle, mandarin

BASE = "ab" * 32
SIGNATURE = AdapterSignature(
    rank=2,
    tensors=(
        AdapterTensor(name="A_all", shape=(5, 2), minimum=-1.0, maximum=1.0),
        AdapterTensor(name="B_all", shape=(2, 3), minimum=-0.5, maximum=0.5),
    ),
    slots=(AdapterSlot(name="input", inputs=5, outputs=3, a_start=0, b_start=0),),
)
SENTENCE = re.compile(r"^[A-Z].*[.]$", re.DOTALL)


def factors(**changed: FloatArray) -> dict[str, FloatArray]:
    a_all = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)
    b_all = np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(2, 3)
    return {"A_all": a_all, "B_all": b_all, **changed}


def packed(tensors: dict[str, FloatArray] | None = None, **words: Any) -> bytes:
    kept = {"base_model": BASE, "rank": 2, "name": "fix", "segment": "somewhere", **words}
    return pack(tensors or factors(), **kept)


def rewritten(change: Any) -> bytes:
    """A packed adapter with its header changed and its data left alone."""
    content = packed()
    (length,) = struct.unpack_from("<Q", content)
    header = msgspec.json.decode(content[8 : 8 + length])
    change(header)
    text = msgspec.json.encode(header)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def refused(content: bytes | Path) -> str:
    with pytest.raises(AdapterError) as caught:
        load(content, BASE, SIGNATURE)
    assert SENTENCE.match(str(caught.value))
    return str(caught.value)


def test_what_was_packed_is_loaded() -> None:
    adapter = load(packed(), BASE, SIGNATURE)
    assert (adapter.name, adapter.segment, adapter.rank, adapter.base_model) == ("fix", "somewhere", 2, BASE)
    for name, values in factors().items():
        assert adapter.tensors[name].dtype == np.float32
        assert np.array_equal(adapter.tensors[name], values.astype(np.float16).astype(np.float32))


def test_loaded_factors_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load(packed(), BASE, SIGNATURE).tensors["A_all"][0, 0] = 1.0


def test_packing_twice_gives_the_same_bytes() -> None:
    assert packed() == packed(dict(reversed(factors().items())))


def test_other_tools_of_the_format_read_an_adapter(tmp_path: Path) -> None:
    path = tmp_path / "fix.adapter"
    path.write_bytes(packed())
    assert np.array_equal(load_safetensors(packed())["B_all"], factors()["B_all"].astype(np.float16))
    with safe_open(path, "numpy") as file:
        assert file.metadata()["base_model"] == BASE


def test_the_committed_adapter_fits_the_committed_bundle() -> None:
    assert mandarin().segment == "mandarin"
    assert mandarin().rank == 8
    assert ADAPTER.stat().st_size < 200_000


def test_an_adapter_for_another_base_is_refused() -> None:
    assert "trained for the base model cdcdcdcdcdcd" in refused(packed(base_model="cd" * 32))


def test_another_rank_is_refused() -> None:
    assert "rank 4" in refused(packed(rank=4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    a_all = factors()["A_all"]
    a_all[2, 1] = value
    assert "not finite" in refused(packed(factors(A_all=a_all)))


def test_values_out_of_the_declared_range_are_refused() -> None:
    sentence = refused(packed(factors(B_all=np.full((2, 3), 0.6, np.float32))))
    assert "allows -0.5 to 0.5" in sentence


def test_another_shape_is_refused() -> None:
    assert "[2, 3]" in refused(packed(factors(B_all=np.zeros((3, 2), np.float32))))
    assert "[5, 2]" in refused(packed(factors(A_all=np.zeros((5, 3), np.float32))))


def test_missing_and_additional_tensors_are_refused() -> None:
    assert "and no others" in refused(packed(factors(C_all=np.zeros((1, 1), np.float32))))
    assert "and no others" in refused(packed({"A_all": factors()["A_all"]}))


def test_a_cut_at_any_byte_is_refused() -> None:
    content = packed()
    for length in range(len(content)):
        refused(content[:length])


def test_bytes_after_the_end_are_refused() -> None:
    assert "after its last tensor" in refused(packed() + b"\0")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000, 65_537])
def test_a_header_that_claims_too_much_is_refused(length: int) -> None:
    assert "claims" in refused(struct.pack("<Q", length) + packed()[8:])


def test_a_header_longer_than_the_file_is_refused() -> None:
    assert "inside its header" in refused(struct.pack("<Q", 60_000) + packed()[8:])


def test_a_deeply_nested_header_is_refused() -> None:
    text = b'{"A_all":' + b"[" * 60_000
    refused(struct.pack("<Q", len(text)) + text)


def test_a_huge_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "huge.adapter"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert str(MAX_ADAPTER_BYTES) in refused(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nothing.adapter")


def test_tensors_that_share_bytes_are_refused() -> None:
    def overlap(header: dict[str, Any]) -> None:
        header["B_all"]["data_offsets"] = [8, 20]

    assert "overlap" in refused(rewritten(overlap))


def test_offsets_that_run_backwards_are_refused() -> None:
    def backwards(header: dict[str, Any]) -> None:
        header["A_all"]["data_offsets"] = [20, 0]

    refused(rewritten(backwards))


def test_another_type_of_numbers_is_refused() -> None:
    assert "fp16" in refused(rewritten(lambda header: header["A_all"].update(dtype="BF16")))


def test_an_adapter_without_metadata_is_refused() -> None:
    assert "cannot be understood" in refused(rewritten(lambda header: header.pop("__metadata__")))


def test_another_format_is_refused() -> None:
    change = {"format": "framefleet-adapter-9"}
    assert "framefleet-adapter-1 is needed" in refused(rewritten(lambda header: header["__metadata__"].update(change)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_adapter_is_loaded_within_its_ranges_or_refused(data: st.DataObject) -> None:
    content = bytearray(packed())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        adapter = load(bytes(content), BASE, SIGNATURE)
    except AdapterError as refusal:
        assert SENTENCE.match(str(refusal))
    else:
        assert np.abs(adapter.tensors["A_all"]).max() <= 1.0
        assert np.abs(adapter.tensors["B_all"]).max() <= 0.5


def test_a_runtime_refuses_an_adapter_of_another_bundle_and_keeps_its_own() -> None:
    runtime = OrtRuntime()
    runtime.load(bundle())
    runtime.set_adapter(mandarin())
    inputs = {
        "features": np.zeros((1, 320), np.float32),
        "kv_in": np.zeros((1, 8, 24, 160), np.float32),
        "mask": np.zeros((1, 25), np.float32),
    }
    before = runtime.step(inputs)["motion"]
    stranger = Adapter("fix", "somewhere", 8, BASE, "00" * 32, mandarin().tensors)
    with pytest.raises(AdapterError, match="another base model"):
        runtime.set_adapter(stranger)
    assert np.array_equal(runtime.step(inputs)["motion"], before)


def test_an_adapter_bound_anew_keeps_its_factors_and_words() -> None:
    other = "cd" * 32
    adapter = load(rebind(packed(), other), other, SIGNATURE)
    assert (adapter.name, adapter.segment, adapter.base_model) == ("fix", "somewhere", other)
    assert np.array_equal(adapter.tensors["A_all"], load(packed(), BASE, SIGNATURE).tensors["A_all"])
    assert rebind(rebind(packed(), other), BASE) == packed()


def test_a_damaged_adapter_is_not_bound_anew() -> None:
    with pytest.raises(AdapterError, match="cut off"):
        rebind(packed()[:-1], "cd" * 32)


def test_a_name_that_is_no_name_is_refused() -> None:
    assert "cannot be understood" in refused(rewritten(lambda header: header["__metadata__"].update(name="x" * 65)))
    assert "cannot be understood" in refused(rewritten(lambda header: header["__metadata__"].update(segment="")))
