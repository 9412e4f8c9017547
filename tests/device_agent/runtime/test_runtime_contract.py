"""What every runtime does alike. The same cases run against ONNX Runtime, a fake of RKNNLite, and a real NPU."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from device_agent.adapters import Adapter, AdapterError
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray, RuntimeName
from device_agent.pipeline.features import features_for
from device_agent.pipeline.stages import MASKED
from device_agent.runtime import OrtRuntime, RuntimeFailure, StageRuntime, has_npu
from device_agent.runtime.fallback import FallbackRuntime
from device_agent.runtime.rknn import RknnRuntime
from tests.device_agent.fake_rknnlite import FakeRknnLite
from tests.device_agent.npu import npu_bundle
from tests.reference_model.artifacts import bundle, mandarin

STEPS = 30


@dataclass(frozen=True)
class Subject:
    runtime: StageRuntime
    name: RuntimeName
    bundle: Bundle
    tolerance: float
    """How far motion may be from ONNX Runtime's, mm; INT8 is not exact."""


def adapter_of(opened: Bundle) -> Adapter:
    return replace(mandarin(), base_model=opened.sha256)


@pytest.fixture(params=["ort", "fake npu", "npu then cpu", "npu"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    made = {
        "ort": lambda: Subject(OrtRuntime(), "onnx", npu_bundle(), 0.0),
        "fake npu": lambda: Subject(RknnRuntime(make=FakeRknnLite), "rknn", npu_bundle(), 1e-5),
        "npu then cpu": lambda: Subject(
            FallbackRuntime("motion", lambda _: None, RknnRuntime(make=lambda: FakeRknnLite({"inference": 5}))),
            "rknn",
            npu_bundle(),
            1e-5,
        ),
        "npu": lambda: Subject(RknnRuntime(), "rknn", bundle(), 0.3),
    }
    if request.param == "npu" and not has_npu():
        pytest.skip("this machine has no NPU")
    subject = made[request.param]()
    yield subject
    subject.runtime.close()


def features() -> FloatArray:
    clip = next(bundle().golden_clips())
    return features_for(clip.audio)[:STEPS, None]


def first_step(opened: Bundle) -> dict[str, FloatArray]:
    """The inputs of the first step of a sound."""
    shapes = {spec.name: spec.shape for spec in opened.manifest.stage("motion").inputs}
    mask = np.full(shapes["mask"], MASKED, np.float32)
    mask[0, -1] = 0.0
    return {"features": features()[10], "kv_in": np.zeros(shapes["kv_in"], np.float32), "mask": mask}


def speak(runtime: StageRuntime, opened: Bundle) -> FloatArray:
    """The motion of some speech, (STEPS, 6)."""
    inputs = first_step(opened)
    motion = []
    for index, step in enumerate(features()):
        inputs["mask"][0, max(0, inputs["mask"].shape[1] - 1 - index) :] = 0.0
        made = runtime.step({**inputs, "features": step})
        inputs["kv_in"] = made["kv_out"]
        motion.append(made["motion"][0])
    return np.stack(motion)


def exact(adapter: Adapter | None = None) -> FloatArray:
    """ONNX Runtime's motion of the same speech."""
    runtime = OrtRuntime()
    runtime.load(bundle())
    runtime.set_adapter(adapter)
    return speak(runtime, bundle())


def test_it_gives_the_motion_of_the_graph(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    assert subject.runtime.name == subject.name
    assert np.abs(speak(subject.runtime, subject.bundle) - exact()).max() <= subject.tolerance


def test_an_adapter_works_at_once_and_leaves_nothing_behind(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    before = speak(subject.runtime, subject.bundle)
    subject.runtime.set_adapter(adapter_of(subject.bundle))
    adapted = speak(subject.runtime, subject.bundle)
    assert np.abs(adapted - exact(mandarin())).max() <= subject.tolerance
    assert np.abs(adapted - before).mean() > 0.05
    subject.runtime.set_adapter(None)
    assert np.abs(speak(subject.runtime, subject.bundle) - before).max() <= subject.tolerance


def test_an_adapter_for_another_bundle_is_refused_and_the_old_one_stays(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    subject.runtime.set_adapter(adapter_of(subject.bundle))
    before = speak(subject.runtime, subject.bundle)
    with pytest.raises(AdapterError, match="another base model"):
        subject.runtime.set_adapter(replace(mandarin(), base_model="0" * 64))
    assert np.abs(speak(subject.runtime, subject.bundle) - before).max() <= subject.tolerance


def test_loading_again_drops_the_adapter(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    subject.runtime.set_adapter(adapter_of(subject.bundle))
    subject.runtime.load(subject.bundle)
    assert np.abs(speak(subject.runtime, subject.bundle) - exact()).max() <= subject.tolerance


def test_outputs_belong_to_the_caller_and_inputs_are_not_written(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    inputs = first_step(subject.bundle)
    given = {name: value.copy() for name, value in inputs.items()}
    first = subject.runtime.step(inputs)
    kept = {name: value.copy() for name, value in first.items()}
    for step in features():
        subject.runtime.step({**inputs, "features": step})
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    assert all(np.array_equal(inputs[name], given[name]) for name in given)
    first["motion"][...] = 0.0


def test_outputs_come_by_name_in_the_declared_shapes(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    made = subject.runtime.step(first_step(subject.bundle))
    outputs = subject.bundle.manifest.stage("motion").outputs
    assert {name: value.shape for name, value in made.items()} == {spec.name: spec.shape for spec in outputs}
    assert all(value.dtype == np.float32 for value in made.values())


def test_inputs_may_lie_in_memory_as_they_like(subject: Subject) -> None:
    subject.runtime.load(subject.bundle)
    inputs = first_step(subject.bundle)
    inputs["kv_in"] = np.random.default_rng(2).normal(size=inputs["kv_in"].shape).astype(np.float32)
    expected = subject.runtime.step(inputs)["motion"]
    scattered = {name: np.asfortranarray(value) for name, value in inputs.items()}
    assert not scattered["kv_in"].flags.c_contiguous
    assert np.abs(subject.runtime.step(scattered)["motion"] - expected).max() <= subject.tolerance


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": None}, r"its input mask was not given"),
        ({"features": np.zeros((1, 319), np.float32)}, r"features must be float32 of the shape \[1, 320\]"),
        ({"features": np.zeros((320,), np.float32)}, r"features must be float32 of the shape \[1, 320\]"),
        ({"features": np.zeros((1, 320))}, r"not float64"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_nothing_is_broken(
    subject: Subject, change: dict[str, FloatArray | None], words: str
) -> None:
    subject.runtime.load(subject.bundle)
    inputs = first_step(subject.bundle)
    expected = subject.runtime.step(inputs)["motion"]
    wrong = {name: value for name, value in {**inputs, **change}.items() if value is not None}
    with pytest.raises(RuntimeFailure, match=words) as caught:
        subject.runtime.step(wrong)
    assert str(caught.value).startswith("The graph of motion failed: ")
    assert str(caught.value).endswith(".")
    assert subject.runtime.name == subject.name
    assert np.abs(subject.runtime.step(inputs)["motion"] - expected).max() <= subject.tolerance


def test_nothing_runs_before_a_bundle_is_loaded_or_after_it_was_closed(subject: Subject) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeFailure, match="load one first"):
            subject.runtime.step(first_step(subject.bundle))
        with pytest.raises(RuntimeFailure, match="load one first"):
            subject.runtime.set_adapter(None)
        subject.runtime.load(subject.bundle)
        subject.runtime.step(first_step(subject.bundle))
        subject.runtime.close()
        subject.runtime.close()
