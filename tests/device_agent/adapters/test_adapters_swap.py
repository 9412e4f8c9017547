"""Adapters on the committed model: off means off, and a swap is nothing but other tensors."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from device_agent.adapters import Adapter, load, pack
from device_agent.adapters.peft import pack_peft, write_peft
from device_agent.bundle.manifest import FloatArray, StageName
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from device_agent.runtime import OrtRuntime
from device_agent.runtime.base import StageRuntime
from tests.reference_model.artifacts import bundle, mandarin


def sound() -> FloatArray:
    return next(bundle().golden_clips()).audio


def adapter_of(tensors: dict[str, FloatArray]) -> Adapter:
    signature = bundle().manifest.adapter
    return load(
        pack(tensors, base_model=bundle().sha256, rank=signature.rank, name="fix", segment="base"),
        bundle().sha256,
        signature,
    )


def zeros() -> dict[str, FloatArray]:
    return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in bundle().manifest.adapter.tensors}


@pytest.fixture
def loads() -> list[StageName]:
    return []


@pytest.fixture
def graph(loads: list[StageName]) -> Iterator[StageGraph]:
    """Notes every stage that is loaded."""

    def make(stage: StageName) -> StageRuntime:
        loads.append(stage)
        return OrtRuntime(stage)

    with StageGraph(bundle(), make) as opened:
        yield opened


def test_an_adapter_of_zeros_is_the_base_model_bit_for_bit(graph: StageGraph) -> None:
    base = motion_for(graph, sound())
    graph.set_adapter(adapter_of(zeros()))
    assert np.array_equal(motion_for(graph, sound()), base)


def test_an_untrained_peft_adapter_is_the_base_model_bit_for_bit(graph: StageGraph) -> None:
    """PEFT begins with random A and B of zeros."""
    base = motion_for(graph, sound())
    signature = bundle().manifest.adapter
    first = signature.tensors[0]
    begun = {**zeros(), first.name: np.random.default_rng(3).uniform(-0.5, 0.5, first.shape).astype(np.float32)}
    weights, config = write_peft(begun, signature)
    content = pack_peft(
        weights, config, base_model=bundle().sha256, signature=signature, name="untrained", segment="base"
    )
    graph.set_adapter(load(content, bundle().sha256, signature))
    assert np.array_equal(motion_for(graph, sound()), base)


def test_a_swap_between_two_sounds_loads_nothing_and_leaves_nothing_behind(
    graph: StageGraph, loads: list[StageName]
) -> None:
    base = motion_for(graph, sound())
    graph.set_adapter(mandarin())
    adapted = motion_for(graph, sound())
    graph.set_adapter(None)
    assert np.array_equal(motion_for(graph, sound()), base)
    graph.set_adapter(mandarin())
    assert np.array_equal(motion_for(graph, sound()), adapted)
    assert np.abs(adapted - base).mean() > 0.05
    assert loads == ["motion"]


def test_a_swap_takes_less_than_five_milliseconds(graph: StageGraph) -> None:
    motion_for(graph, sound()[:640])
    adapters = [mandarin(), None, mandarin(), None, mandarin()]
    taken = []
    for adapter in adapters:
        started = time.perf_counter()
        graph.set_adapter(adapter)
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[2] < 0.005
