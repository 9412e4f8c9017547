from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_agent.bundle import Bundle, BundleError
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from device_agent.runtime import NpuFault, OrtRuntime, RuntimeFactory, has_npu, runtimes
from device_agent.runtime.fallback import FallbackRuntime
from device_agent.runtime.rknn import RknnRuntime
from tests.device_agent.fake_rknnlite import FakeRknnLite
from tests.device_agent.graphs import PHOTO, repaired, small_bundle
from tests.device_agent.npu import npu_bundle
from tests.device_agent.runtime.test_runtime_contract import adapter_of, first_step
from tests.reference_model.artifacts import with_manifest


class Maker:
    """Makes fakes and remembers them; `fails` says what goes wrong in each, in order of making."""

    def __init__(self, *fails: dict[str, int]) -> None:
        self._fails = list(fails)
        self.made: list[FakeRknnLite] = []

    def __call__(self) -> FakeRknnLite:
        self.made.append(FakeRknnLite(self._fails.pop(0) if self._fails else None))
        return self.made[-1]


def without_npu_graph() -> Bundle:
    return Bundle.open(with_manifest(lambda manifest: manifest["stages"][0]["graphs"].pop("rknn", None)))


def loaded(lite: FakeRknnLite) -> RknnRuntime:
    runtime = RknnRuntime(make=lambda: lite)
    runtime.load(npu_bundle())
    return runtime


@pytest.mark.parametrize("call", ["load_rknn", "init_runtime"])
def test_a_graph_the_npu_does_not_take_is_a_fault_and_holds_nothing(call: str) -> None:
    lite = FakeRknnLite({call: 1})
    with pytest.raises(NpuFault, match=r"^The graph of motion cannot run on the NPU: RKNNLite .+\.$"):
        loaded(lite)
    assert not lite.held
    assert lite.calls["release"] == 1


def test_no_answer_is_a_fault_and_the_next_step_may_work() -> None:
    runtime = loaded(FakeRknnLite({"inference": 1}))
    with pytest.raises(NpuFault, match=r"^The graph of motion cannot run on the NPU: the NPU gave no answer\.$"):
        runtime.step(first_step(npu_bundle()))
    assert runtime.step(first_step(npu_bundle()))["motion"].shape == (1, 6)


def test_an_answer_of_another_shape_is_a_fault() -> None:
    class Transposing(FakeRknnLite):
        def inference(self, *args: object, **kwargs: object) -> list[np.ndarray] | None:
            values = super().inference(*args, **kwargs)  # type: ignore[arg-type]
            return None if values is None else [value.transpose() for value in values]

    class Forgetting(FakeRknnLite):
        def inference(self, *args: object, **kwargs: object) -> list[np.ndarray] | None:
            return (super().inference(*args, **kwargs) or [])[:1]  # type: ignore[arg-type]

    with pytest.raises(NpuFault, match=r"gave motion as \[6, 1\] instead of \[1, 6\]"):
        loaded(Transposing()).step(first_step(npu_bundle()))
    with pytest.raises(NpuFault, match="gave 1 outputs instead of 2"):
        loaded(Forgetting()).step(first_step(npu_bundle()))


def test_an_exception_of_rknnlite_is_a_fault_too() -> None:
    class Raising(FakeRknnLite):
        def inference(self, *args: object, **kwargs: object) -> list[np.ndarray] | None:
            raise KeyError("nchw")

        def release(self) -> None:
            super().release()
            raise OSError("librknnrt.so")

    lite = Raising()
    runtime = loaded(lite)
    with pytest.raises(NpuFault, match="the NPU failed: 'nchw'"):
        runtime.step(first_step(npu_bundle()))
    runtime.close()
    assert not lite.held


def test_a_machine_without_rknnlite_says_so() -> None:
    if has_npu():
        pytest.skip("this machine has an NPU")
    with pytest.raises(NpuFault, match="not to be had on this machine"):
        RknnRuntime().load(npu_bundle())


def test_the_graph_is_given_by_a_path_that_is_gone_afterwards() -> None:
    lite = FakeRknnLite()
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    loaded(lite)
    assert lite.path.startswith("/proc/self/fd/")
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


def test_the_npu_is_released_once_for_each_load() -> None:
    maker = Maker()
    runtime = RknnRuntime(make=maker)
    for _ in range(3):
        runtime.load(npu_bundle())
    runtime.close()
    assert [lite.calls["release"] for lite in maker.made] == [1, 1, 1]


@pytest.mark.parametrize("mask", [0, 1, 2, 4, 3, 7])
def test_the_cores_are_those_that_were_asked_for(mask: int) -> None:
    maker = Maker()
    RknnRuntime(core_mask=mask, make=maker).load(npu_bundle())
    assert maker.made[0].core_mask == mask


def test_cores_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one of 0, 1, 2, 4, 3, 7, not 5"):
        RknnRuntime(core_mask=5)
    with pytest.raises(ValueError, match="not 8"):
        runtimes("onnx", core_mask=8)
    with pytest.raises(ValueError, match="must be auto, onnx or rknn"):
        runtimes("cuda")  # type: ignore[arg-type]


def test_a_bundle_without_an_npu_graph_is_refused_by_the_npu() -> None:
    with pytest.raises(BundleError, match="no rknn graph"):
        RknnRuntime(make=FakeRknnLite).load(without_npu_graph())


# From here on: the CPU behind the NPU.


def speech() -> np.ndarray:
    return np.concatenate([clip.audio for clip in npu_bundle().golden_clips()])[: 640 * 60]


def on_cpu(adapted: bool) -> np.ndarray:
    with StageGraph(npu_bundle()) as stages:
        stages.set_adapter(adapter_of(npu_bundle()) if adapted else None)
        return motion_for(stages, speech())


def forced(maker: Callable[[], FakeRknnLite], said: list[str]) -> RuntimeFactory:
    return runtimes("rknn", on_fault=said.append, make=maker)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("fails", [{"load_rknn": 1}, {"init_runtime": 1}, {"inference": 1}, {"inference": 30}])
def test_a_fault_at_any_moment_costs_no_step(fails: dict[str, int], adapted: bool) -> None:
    said: list[str] = []
    maker = Maker(fails)
    with StageGraph(npu_bundle(), forced(maker, said)) as stages:
        stages.set_adapter(adapter_of(npu_bundle()) if adapted else None)
        motion = motion_for(stages, speech())
        assert stages.running == {"motion": "onnx"}
        assert not maker.made[0].held
        assert np.array_equal(motion_for(stages, speech()), motion)
    assert np.abs(motion - on_cpu(adapted)).max() < 1e-5
    assert len(said) == 1
    assert said[0].startswith("The graph of motion cannot run on the NPU: ")
    assert said[0].endswith(". The CPU runs it instead.")


def test_without_a_fault_nothing_is_said_and_the_npu_does_it_all() -> None:
    said: list[str] = []
    maker = Maker()
    with StageGraph(npu_bundle(), forced(maker, said)) as stages:
        assert np.abs(motion_for(stages, speech()) - on_cpu(False)).max() < 1e-5
        assert stages.running == {"motion": "rknn"}
    assert maker.made[0].calls["inference"] == 62
    assert not said


def test_the_next_load_tries_the_npu_again() -> None:
    said: list[str] = []
    runtime = FallbackRuntime("motion", said.append, RknnRuntime(make=Maker({"inference": 2}, {}, {"load_rknn": 1})))
    names = []
    for _ in range(3):
        runtime.load(npu_bundle())
        for _ in range(3):
            runtime.step(first_step(npu_bundle()))
            names.append(runtime.name)
    assert names == ["rknn", "onnx", "onnx", "rknn", "rknn", "rknn", "onnx", "onnx", "onnx"]
    assert len(said) == 2


def test_an_adapter_set_before_the_fault_stays_and_one_set_after_it_works() -> None:
    runtime = FallbackRuntime("motion", lambda _: None, RknnRuntime(make=Maker({"inference": 2})))
    runtime.load(npu_bundle())
    inputs = first_step(npu_bundle())
    plain = runtime.step(inputs)["motion"]
    runtime.set_adapter(adapter_of(npu_bundle()))
    adapted = runtime.step(inputs)["motion"]
    assert runtime.name == "onnx"
    assert np.abs(adapted - plain).max() > 0.01
    runtime.set_adapter(None)
    assert np.abs(runtime.step(inputs)["motion"] - plain).max() < 1e-5


def test_stages_fall_back_one_by_one() -> None:
    said: list[str] = []
    # Made in the order in which the stages are first needed: the photo's, the sound's, motion, decoder, repair.
    maker = Maker({}, {}, {"inference": 3}, {}, {"load_rknn": 1})
    with StageGraph(small_bundle(), forced(maker, said)) as on_npu, StageGraph(small_bundle()) as exact:
        for stages in (on_npu, exact):
            stages.prompt(np.full(PHOTO, 0.5, np.float32))
        states = on_npu.start(), exact.start()
        for level in (1.0, 2.0, 3.0, 4.0):
            features = {"features": np.full((1, 320), level, np.float32)}
            motions = [stages.step(features, own) for stages, own in zip((on_npu, exact), states, strict=True)]
            assert np.abs(motions[0] - motions[1]).max() < 1e-6
            assert np.array_equal(repaired(on_npu), repaired(exact))
        assert on_npu.running == {
            "visual_prompt": "rknn",
            "audio_encoder": "rknn",
            "motion": "onnx",
            "token_decoder": "rknn",
            "face_repair": "onnx",
        }
    assert [sentence.split()[3] for sentence in said] == ["face_repair", "motion"]
    assert not any(lite.held for lite in maker.made)


def test_a_bundle_without_an_npu_graph_runs_on_the_cpu() -> None:
    said: list[str] = []
    runtime = FallbackRuntime("motion", said.append, RknnRuntime(make=FakeRknnLite))
    runtime.load(without_npu_graph())
    assert (runtime.name, said) == ("onnx", [])
    demanded = forced(FakeRknnLite, said)("motion")
    demanded.load(without_npu_graph())
    assert demanded.name == "onnx"
    assert said == ["The bundle carries no graph of motion for the NPU. The CPU runs it instead."]


def test_a_machine_without_an_npu_uses_onnx_runtime() -> None:
    if has_npu():
        pytest.skip("this machine has an NPU")
    assert isinstance(runtimes("auto")("motion"), OrtRuntime)
    assert isinstance(runtimes("onnx")("motion"), OrtRuntime)


@pytest.mark.parametrize(
    ("compatible", "package", "found"),
    [
        (b"radxa,rock-5b\0rockchip,rk3588\0", True, True),
        (b"xunlong,orangepi-5\0rockchip,rk3588s\0", True, True),
        (b"radxa,rock-5b\0rockchip,rk3588\0", False, False),
        (b"raspberrypi,5-model-b\0brcm,bcm2712\0", True, False),
        (None, True, False),
    ],
)
def test_an_npu_is_an_rk3588_with_rknnlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compatible: bytes | None, package: bool, found: bool
) -> None:
    tree, packages = tmp_path / "compatible", tmp_path / "packages"
    if compatible is not None:
        tree.write_bytes(compatible)
    if package:
        (packages / "rknnlite").mkdir(parents=True)
        (packages / "rknnlite" / "__init__.py").touch()
    monkeypatch.syspath_prepend(packages)
    if not package and has_npu():
        pytest.skip("this machine has RKNNLite")
    assert has_npu(tree) is found
