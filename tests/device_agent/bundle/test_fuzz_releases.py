"""Bundles and adapters come signed, and still nothing in them is believed: they load, or one sentence says why not."""

import functools
import os
import re
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.adapters import AdapterError, load
from device_agent.adapters.peft import pack_peft, unpack_peft
from device_agent.bundle import MANIFEST, Bundle, BundleError
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from device_agent.runtime.base import RuntimeFailure
from reference_model.packing import write_zip
from tests.device_agent.fuzzing import bounded, damaged, lying
from tests.device_agent.graphs import packed, small_stages
from tests.reference_model.artifacts import ADAPTER, BUNDLE, bundle, members

SENTENCE = re.compile(r"[A-Z/].*\.", re.DOTALL)


def fuzz(examples: int) -> settings:
    """More by hand: FUZZ_EXAMPLES=5000 pytest tests/device_agent/test_fuzz_releases.py"""
    return settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", examples)),
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow],
    )


@functools.cache
def bundles() -> dict[str, dict[str, bytes]]:
    """The members of the committed bundle, and of one with all five stages."""
    with Bundle.open(packed(small_stages())) as small:
        names = [*small.manifest.files, MANIFEST]
        return {"committed": members(), "small": {name: _member(small, name) for name in names}}


def _member(opened: Bundle, name: str) -> bytes:
    return msgspec.json.encode(opened.manifest) if name == MANIFEST else opened.read(name)


@functools.cache
def manifests() -> dict[str, Any]:
    return {name: msgspec.json.decode(content[MANIFEST]) for name, content in bundles().items()}


@functools.cache
def packed_bundle() -> bytes:
    """The committed bundle without its large members' bytes in the way: damage hits the structure."""
    content = members()
    return write_zip({name: data if name == MANIFEST else data[:64] for name, data in content.items()})


def play(source: bytes) -> None:
    """What the engine and the trial do with a bundle, for two steps."""
    with bounded(250, seconds=10):
        try:
            with Bundle.open(source) as opened, StageGraph(opened) as stages:
                stages.load()
                for shape in filter(None, [stages.photo_shape]):
                    stages.prompt(np.zeros(shape, np.float32))
                motion = motion_for(stages, np.zeros(1_000, np.float32))
                assert np.isfinite(motion).all()
                opened.face_mesh()
                for clip in opened.golden_clips():
                    assert np.isfinite(clip.expected).all()
        except (BundleError, RuntimeFailure) as refusal:
            assert SENTENCE.fullmatch(str(refusal))


@pytest.mark.slow
@fuzz(100)
@given(st.sampled_from(["committed", "small"]), st.data())
def test_a_bundle_whose_manifest_lies_plays_or_is_refused(which: str, data: st.DataObject) -> None:
    manifest = data.draw(lying(manifests()[which]))
    play(write_zip({**bundles()[which], MANIFEST: msgspec.json.encode(manifest)}))


@fuzz(200)
@given(damaged([packed_bundle(), b"PK\5\6" + bytes(18)]))
def test_a_damaged_bundle_plays_or_is_refused(content: bytes) -> None:
    play(content)


def take(content: bytes) -> None:
    with bounded(30):
        try:
            adapter = load(content, bundle().sha256, bundle().manifest.adapter)
        except AdapterError as refusal:
            assert SENTENCE.fullmatch(str(refusal))
        else:
            for tensor in bundle().manifest.adapter.tensors:
                values = adapter.tensors[tensor.name]
                assert values.shape == tensor.shape
                assert tensor.minimum <= values.min() <= values.max() <= tensor.maximum


@functools.cache
def adapter_file() -> bytes:
    return ADAPTER.read_bytes()


def _header(content: bytes) -> tuple[Any, bytes]:
    (length,) = struct.unpack_from("<Q", content)
    return msgspec.json.decode(content[8 : 8 + length]), content[8 + length :]


def _with_header(header: Any, data: bytes) -> bytes:
    text = msgspec.json.encode(header)
    return struct.pack("<Q", len(text)) + text + data


@fuzz(200)
@given(damaged([adapter_file()]))
def test_a_damaged_adapter_is_taken_or_refused(content: bytes) -> None:
    take(content)


@fuzz(200)
@given(st.data())
def test_an_adapter_whose_header_lies_is_taken_or_refused(data: st.DataObject) -> None:
    header, tensors = _header(adapter_file())
    take(_with_header(data.draw(lying(header)), tensors))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -65_504.0])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_bad_value_anywhere_in_an_adapter_is_refused(value: float, place: float) -> None:
    header, tensors = _header(adapter_file())
    at = round(place * (len(tensors) // 2 - 1)) * 2
    spoiled = tensors[:at] + np.float16(value).tobytes() + tensors[at + 2 :]
    with pytest.raises(AdapterError, match=r"not finite|allows"):
        load(_with_header(header, spoiled), bundle().sha256, bundle().manifest.adapter)


@functools.cache
def peft() -> tuple[bytes, bytes]:
    return unpack_peft(adapter_file(), bundle().sha256, bundle().manifest.adapter)


@pytest.mark.slow
@fuzz(120)
@given(st.data())
def test_a_peft_adapter_that_is_damaged_or_lies_is_packed_or_refused(data: st.DataObject) -> None:
    weights, config = peft()
    header, tensors = _header(weights)
    which = data.draw(st.sampled_from(["weights", "header", "config", "config bytes"]))
    match which:
        case "weights":
            weights = data.draw(damaged([weights]))
        case "header":
            weights = _with_header(data.draw(lying(header)), tensors)
        case "config":
            config = msgspec.json.encode(data.draw(lying(msgspec.json.decode(config))))
        case _:
            config = data.draw(damaged([config]))
    with bounded(40):
        try:
            content = pack_peft(
                weights, config, base_model=bundle().sha256, signature=bundle().manifest.adapter, name="a", segment="b"
            )
        except AdapterError as refusal:
            assert SENTENCE.fullmatch(str(refusal))
        else:
            load(content, bundle().sha256, bundle().manifest.adapter)


def test_the_files_that_are_damaged_here_are_good() -> None:
    play(BUNDLE.read_bytes())
    load(adapter_file(), bundle().sha256, bundle().manifest.adapter)
    with Bundle.open(write_zip(bundles()["small"])) as opened:
        opened.verify()
