from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.adapters import Adapter, AdapterError
from device_agent.bundle import Bundle, BundleError
from device_agent.bundle.manifest import STAGE_ORDER, FloatArray, Stage, StageName, State, TensorSpec
from device_agent.pipeline.budget import to_give_back
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import MASKED, StageGraph
from device_agent.runtime import OrtRuntime, RuntimeFailure, StageRuntime, Tensors
from tests.device_agent.graphs import MOUTH, PHOTO, bundle_of, repaired, small_bundle, small_stages
from tests.reference_model.artifacts import bundle, graph, mandarin

DARK, BRIGHT = np.full(PHOTO, 0.25, np.float32), np.full(PHOTO, 0.5, np.float32)
BLACK = np.zeros(MOUTH, np.float32)


def features(level: float) -> Tensors:
    return {"features": np.full((1, 320), level, np.float32)}


def by_hand(levels: list[float], bias: float) -> list[float]:
    """The small stages' motion."""
    motion = []
    for step, level in enumerate(levels):
        masked = max(0, 2 - step) + max(0, 1 - step)
        coarse = level + bias + sum(levels[: step + 1]) + MASKED * masked + step
        motion.append(coarse / 1000 + step)
    return motion


def adapter_for(opened: Bundle, value: float = 0.5) -> Adapter:
    """An adapter whose A sums up to `value`."""
    tensors = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in opened.manifest.adapter.tensors}
    tensors["A_all"][0, 0] = value
    return Adapter(name="small", segment="base", base_model=opened.sha256, rank=8, sha256=f"{value}", tensors=tensors)


class Counting(OrtRuntime):
    """Counts loads and steps by stage, and keeps the largest memory that was loaded at once."""

    def __init__(self, stage: StageName, log: Counter[str]) -> None:
        super().__init__(stage)
        self._log = log

    def load(self, bundle: Bundle) -> None:
        super().load(bundle)
        self._log[f"load {self._stage}"] += 1
        self._log["now"] += bundle.manifest.stage(self._stage).memory_mb
        self._log["most"] = max(self._log["most"], self._log["now"])

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        self._log[f"step {self._stage}"] += 1
        return super().step(inputs)

    def close(self) -> None:
        if self._session is not None:
            self._log["now"] -= 10
        super().close()


def counted(opened: Bundle) -> tuple[StageGraph, Counter[str]]:
    log: Counter[str] = Counter()

    def factory(stage: StageName) -> StageRuntime:
        return Counting(stage, log)

    return StageGraph(opened, factory), log


def test_all_five_stages_hand_each_other_what_they_make() -> None:
    with StageGraph(small_bundle()) as stages:
        stages.prompt(BRIGHT)
        states = stages.start()
        levels = [2.0, 1.0, 0.0, 3.0, 1.0]
        for frame, (level, expected) in enumerate(zip(levels, by_hand(levels, 0.5), strict=True)):
            assert stages.step(features(level), states) == pytest.approx(np.full(6, expected), abs=1e-5)
            assert repaired(stages) == pytest.approx(np.full(MOUTH, 0.5 + frame))


def test_each_sound_starts_afresh() -> None:
    with StageGraph(small_bundle()) as stages:
        stages.prompt(BRIGHT)
        for _ in range(2):
            states = stages.start()
            assert stages.step(features(1.0), states)[0] == pytest.approx(by_hand([1.0], 0.5)[0], abs=1e-6)
            assert repaired(stages)[0, 0, 0, 0] == pytest.approx(0.5)


def test_a_bundle_of_motion_alone_needs_no_photo_and_repairs_nothing() -> None:
    with StageGraph(bundle()) as stages:
        assert stages.photo_shape is None
        assert stages.mouth_shape is None
        stages.prompt(BRIGHT)
        assert stages.repair(BLACK) is None
        assert stages.running == {}


def test_stages_say_what_they_want_to_see() -> None:
    stages = StageGraph(small_bundle())
    assert stages.photo_shape == PHOTO
    assert stages.mouth_shape == MOUTH


def test_motion_that_needs_a_photo_says_so() -> None:
    with StageGraph(small_bundle()) as stages, pytest.raises(RuntimeFailure, match="needs a photo"):
        stages.step(features(1.0), stages.start())


def test_there_is_nothing_to_repair_before_the_first_step() -> None:
    with StageGraph(small_bundle()) as stages:
        stages.prompt(DARK)
        stages.start()
        with pytest.raises(RuntimeFailure, match="no frame to repair"):
            stages.repair(BLACK)


def test_a_photo_is_looked_at_once_until_another_comes() -> None:
    stages, log = counted(small_bundle())
    with stages:
        for photo, bias, looks in ((DARK, 0.25, 1), (DARK.copy(), 0.25, 1), (BRIGHT, 0.5, 2), (DARK, 0.25, 3)):
            stages.prompt(photo)
            assert log["step visual_prompt"] == looks
            for level in (0.0, 1.0):
                assert stages.step(features(level), stages.start())[0] == pytest.approx(
                    by_hand([level], bias)[0], abs=1e-6
                )


def test_stages_load_when_they_are_first_needed() -> None:
    stages, log = counted(small_bundle())
    assert not log
    stages.prompt(DARK)
    assert set(stages.running) == {"visual_prompt"}
    stages.step(features(1.0), stages.start())
    assert set(stages.running) == {"visual_prompt", "audio_encoder", "motion", "token_decoder"}
    stages.repair(BLACK)
    assert set(stages.running) == set(STAGE_ORDER)
    assert all(log[f"load {name}"] == 1 for name in STAGE_ORDER)
    stages.close()
    assert (stages.running, log["now"]) == ({}, 0)


def test_the_stages_that_run_all_the_time_can_be_loaded_ahead() -> None:
    with StageGraph(small_bundle()) as stages:
        stages.load()
        assert stages.running == dict.fromkeys(("audio_encoder", "motion", "token_decoder", "face_repair"), "onnx")


def test_the_stage_of_the_photo_makes_room_for_those_of_each_step() -> None:
    stages, log = counted(small_bundle(memory_mb=40))
    with stages:
        stages.prompt(DARK)
        states = stages.start()
        stages.step(features(1.0), states)
        assert "visual_prompt" in stages.running
        stages.repair(BLACK)
        assert set(stages.running) == {"audio_encoder", "motion", "token_decoder", "face_repair"}
        assert stages.step(features(1.0), states)[0] == pytest.approx(by_hand([1.0, 1.0], 0.25)[1], abs=1e-5)
        assert log["load audio_encoder"] == 1
    assert log["most"] == 40


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["dark", "bright", "step", "start", "adapter", "none"]), max_size=20))
def test_little_memory_changes_no_result_and_is_never_exceeded(acts: list[str]) -> None:
    tight, log = counted(small_bundle(memory_mb=40))
    roomy = StageGraph(small_bundle())
    for stages in (tight, roomy):
        stages.prompt(BRIGHT)
    states = [tight.start(), roomy.start()]
    with tight, roomy:
        for act in acts:
            if act == "start":
                states = [tight.start(), roomy.start()]
            elif act == "step":
                made = [stages.step(features(1.0), own) for stages, own in zip((tight, roomy), states, strict=True)]
                assert np.array_equal(made[0], made[1])
                assert np.array_equal(repaired(tight), repaired(roomy))
            elif act in ("adapter", "none"):
                for stages in (tight, roomy):
                    opened = stages._bundle
                    stages.set_adapter(adapter_for(opened) if act == "adapter" else None)
                    stages.prompt(BRIGHT)
            else:
                for stages in (tight, roomy):
                    stages.prompt(DARK if act == "dark" else BRIGHT)
            assert log["now"] <= 40
    assert log["most"] <= 40
    assert log["now"] == 0


def test_only_as_many_stages_are_given_back_as_it_takes() -> None:
    manifest = small_bundle(memory_mb=40).manifest
    every: list[StageName] = ["audio_encoder", "motion", "token_decoder", "face_repair"]
    assert to_give_back(manifest, [], "motion") == []
    assert to_give_back(manifest, every[:3], "visual_prompt") == []
    assert to_give_back(manifest, every, "visual_prompt") == ["face_repair"]
    assert to_give_back(manifest, ["visual_prompt", *every[:3]], "face_repair") == ["visual_prompt"]
    large = msgspec.structs.replace(manifest.stage("visual_prompt"), memory_mb=25)
    others = tuple(stage for stage in manifest.stages if stage.name != "visual_prompt")
    manifest = msgspec.structs.replace(manifest, stages=(*others, large))
    assert to_give_back(manifest, every, "visual_prompt") == ["face_repair", "token_decoder", "motion"]


def test_an_adapter_reaches_the_stages_that_take_it_and_makes_the_photo_due_again() -> None:
    opened = small_bundle()
    with StageGraph(opened) as stages:
        stages.prompt(DARK)
        stages.set_adapter(adapter_for(opened))
        with pytest.raises(RuntimeFailure, match="needs a photo"):
            stages.step(features(1.0), stages.start())
        stages.prompt(DARK)
        assert stages.step(features(1.0), stages.start())[0] == pytest.approx(by_hand([1.0], 0.75)[0], abs=1e-6)
        stages.set_adapter(None)
        stages.prompt(DARK)
        assert stages.step(features(1.0), stages.start())[0] == pytest.approx(by_hand([1.0], 0.25)[0], abs=1e-6)


def test_a_refused_adapter_leaves_every_stage_with_the_one_before() -> None:
    opened = small_bundle()
    with StageGraph(opened) as stages:
        stages.set_adapter(adapter_for(opened))
        stages.prompt(DARK)
        with pytest.raises(AdapterError, match="another base model"):
            stages.set_adapter(mandarin())
        assert stages.step(features(1.0), stages.start())[0] == pytest.approx(by_hand([1.0], 0.75)[0], abs=1e-6)


def test_motion_comes_from_sound_through_all_stages() -> None:
    with StageGraph(small_bundle()) as stages:
        stages.prompt(DARK)
        silence = motion_for(stages, np.zeros(640 * 5, np.float32))
        sound = motion_for(stages, np.sin(np.arange(640 * 5) / 5).astype(np.float32))
    assert silence.shape == sound.shape == (5, 6)
    assert not np.array_equal(silence, sound)


def test_two_sounds_take_turns_on_one_graph() -> None:
    first, second = graph().start(), graph().start()
    zeros = {"features": np.zeros((1, 320), np.float32)}
    ones = {"features": np.ones((1, 320), np.float32)}
    turns = [(graph().step(zeros, first), graph().step(ones, second)) for _ in range(3)]
    again = graph().start()
    assert all(np.array_equal(graph().step(zeros, again), turn[0]) for turn in turns)


def changed(name: StageName, **changes: object) -> Bundle:
    stages = dict(small_stages())
    entry, content = stages[name]
    stages[name] = (msgspec.structs.replace(entry, **changes), content)
    return bundle_of(stages)


def spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, layout="nchw" if len(shape) == 4 else "nd")


def of(name: StageName) -> Stage:
    return small_stages()[name][0]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("motion", {"inputs": (*of("motion").inputs, spec("photo", *PHOTO))}, "input photo that nothing gives"),
        ("motion", {"inputs": (*of("motion").inputs, spec("mouth", *MOUTH))}, "input mouth that nothing gives"),
        ("motion", {"inputs": (*of("motion").inputs, spec("features", 1, 321))}, "input features that nothing gives"),
        ("visual_prompt", {"inputs": (*of("visual_prompt").inputs, spec("level", 1, 1))}, "input level that nothing"),
        ("visual_prompt", {"inputs": (spec("photo", 1, 4, 4, 4),)}, "input photo that nothing gives"),
        ("visual_prompt", {"states": (State(input="photo", output="bias"),)}, "can have no states"),
        ("audio_encoder", {"outputs": (*of("audio_encoder").outputs, spec("A_all", 1, 1))}, "tensor of the adapter"),
        ("face_repair", {"outputs": (spec("mended", *MOUTH), spec("frames_out", 1, 1, 1, 1))}, "give it as repaired"),
        ("face_repair", {"outputs": (spec("repaired", *PHOTO), spec("frames_out", 1, 1, 1, 1))}, "the same shape"),
        ("face_repair", {"inputs": (spec("bias", 1, 1), spec("frames", 1, 1, 1, 1))}, "must take a mouth"),
        ("motion", {"memory_mb": 40}, "run all the time need more memory together"),
        ("token_decoder", {"outputs": (spec("lips", 1, 6), spec("steps_out", 1, 1))}, "must give a motion"),
    ],
)
def test_stages_that_do_not_fit_together_are_refused(name: StageName, changes: dict[str, object], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        changed(name, **changes)


@pytest.mark.parametrize("name", ["audio_encoder", "visual_prompt", "token_decoder"])
def test_a_stage_others_wait_for_cannot_be_left_out(name: StageName) -> None:
    with pytest.raises(BundleError, match=r"that nothing gives|must give a motion"):
        small_bundle(name)


def test_face_repair_can_be_left_out() -> None:
    with StageGraph(small_bundle("face_repair")) as stages:
        stages.prompt(DARK)
        stages.step(features(1.0), stages.start())
        assert stages.repair(BLACK) is None


def test_a_stage_cannot_declare_less_memory_than_its_graph_has_bytes() -> None:
    stages = dict(small_stages())
    entry, content = stages["motion"]
    stages["motion"] = (msgspec.structs.replace(entry, memory_mb=1), content + bytes(1_000_001))
    with pytest.raises(BundleError, match="less memory than its graph"):
        bundle_of(stages)
