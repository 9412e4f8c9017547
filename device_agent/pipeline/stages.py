"""The pipeline's graphs as one: named stages that hand each other named tensors.

audio features -> audio_encoder -> visual_prompt -> motion -> token_decoder -> face_repair -> compositor. A bundle says
which graph file serves which stage; a stage it leaves out is skipped, and what the next one needs must come from
elsewhere, which the manifest's check has made sure of. Stages load when they are first needed and stay within the
memory that the bundle declares.

`prompt` runs visual_prompt, once per photo; `step` runs audio_encoder, motion and token_decoder, every 40 ms; `repair`
runs face_repair, once per frame.
"""

import hashlib
from collections.abc import Iterable
from typing import Self

import numpy as np

from device_agent.adapters import Adapter, AdapterError
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import (
    MOTION,
    PER_STEP,
    REPAIRED,
    FloatArray,
    Manifest,
    RuntimeName,
    Stage,
    StageName,
)
from device_agent.pipeline.budget import to_give_back
from device_agent.runtime.base import RuntimeFactory, RuntimeFailure, StageRuntime, Tensors
from device_agent.runtime.ort import OrtRuntime

# Added to the attention scores of window slots that hold nothing yet; a larger value would waste INT8's range.
MASKED = -16.0

States = dict[StageName, dict[str, FloatArray]]
"""What each stage remembers between two steps of a sound: its states, and its window's mask."""


class StageGraph:
    """The stages of one bundle, for one thread. The bundle must stay open as long as the graph lives."""

    def __init__(self, bundle: Bundle, runtimes: RuntimeFactory = OrtRuntime) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self._runtimes = runtimes
        self._loaded: dict[StageName, StageRuntime] = {}
        self._adapter: Adapter | None = None
        self._steps = tuple(stage for stage in manifest.stages if stage.name in PER_STEP)
        self._prompt_stage = manifest.find_stage("visual_prompt")
        self._repair_stage = manifest.find_stage("face_repair")
        adapted = {tensor.name for tensor in manifest.adapter.tensors}
        self._taken = {
            stage.name: tuple(spec.name for spec in stage.inputs if spec.name not in adapted)
            for stage in manifest.stages
        }
        self._photo = b""
        self._prompt: Tensors = {}
        self._made: Tensors = {}
        self._repair_states: States = {}

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._bundle.manifest

    @property
    def running(self) -> dict[StageName, RuntimeName]:
        """What each loaded stage runs on now."""
        return {name: runtime.name for name, runtime in self._loaded.items()}

    @property
    def photo_shape(self) -> tuple[int, ...] | None:
        """The shape in which `prompt` takes a photo, (1, 3, height, width); None where the bundle needs none."""
        return _shape(self._prompt_stage, "photo")

    @property
    def mouth_shape(self) -> tuple[int, ...] | None:
        """The shape in which `repair` takes and gives a mouth, (1, 3, height, width); None where there is no repair."""
        return _shape(self._repair_stage, "mouth")

    def set_adapter(self, adapter: Adapter | None) -> None:
        """Use this adapter from the next step on; None means the base model alone. Needs no reload.

        Where visual_prompt takes the adapter's tensors, its answer is forgotten: give the photo again. Raises
        AdapterError; nothing has changed then.
        """
        if adapter == self._adapter:
            return
        if adapter is not None and adapter.base_model != self._bundle.sha256:
            raise AdapterError(f"The adapter {adapter.name} was loaded for another base model than the running one.")
        for runtime in self._loaded.values():
            runtime.set_adapter(adapter)
        self._adapter = adapter
        stage = self._prompt_stage
        if stage is not None and len(self._taken[stage.name]) < len(stage.inputs):
            self._photo, self._prompt = b"", {}

    def prompt(self, photo: FloatArray) -> None:
        """Let visual_prompt see a photo, RGB in 0..1 of `photo_shape`; what it says counts for all steps from now on.

        A photo equal to the last one is not run again, and a bundle without the stage does nothing. Raises BundleError
        or RuntimeFailure.
        """
        stage = self._prompt_stage
        if stage is None:
            return
        seen = hashlib.sha256(photo.tobytes()).digest()
        if seen != self._photo:
            self._photo, self._prompt = b"", {}  # a failure must not leave another photo's answer
            self._prompt = self._run(stage, {"photo": photo})
            self._photo = seen

    def start(self) -> States:
        """The states before the first step of a sound."""
        if self._repair_stage is not None:
            self._repair_states = _fresh([self._repair_stage])
        self._made = {}
        return _fresh(self._steps)

    def step(self, given: Tensors, states: States) -> FloatArray:
        """One step from `features` (1, n) to motion, (parameters,) in mm; `states` move on. Raises RuntimeFailure."""
        if self._prompt_stage is not None and not self._prompt:
            raise RuntimeFailure("This bundle needs a photo before its first step; give it one.")
        board = {**self._prompt, **given}
        for stage in self._steps:
            board |= self._advance(stage, board, states)
        self._made = board
        return board[MOTION].reshape(-1)

    def repair(self, mouth: FloatArray) -> FloatArray | None:
        """Let face_repair mend the mouth of one frame, RGB in 0..1 of `mouth_shape`; None where the bundle has none.

        Call it for each frame between the step that made its motion and the next one: the stage may take what other
        stages made in that step. Raises RuntimeFailure.
        """
        stage = self._repair_stage
        if stage is None:
            return None
        if not self._made:
            raise RuntimeFailure("There is no frame to repair before the first step of a sound.")
        return self._advance(stage, {**self._made, "mouth": mouth}, self._repair_states)[REPAIRED]

    def load(self) -> None:
        """Load the stages that run all the time now. Raises BundleError or RuntimeFailure."""
        for stage in self.manifest.stages:
            if stage is not self._prompt_stage:
                self._runtime(stage.name)

    def close(self) -> None:
        """Give back what the stages take."""
        for runtime in self._loaded.values():
            runtime.close()
        self._loaded.clear()
        self._photo, self._prompt, self._made, self._repair_states = b"", {}, {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance(self, stage: Stage, board: Tensors, states: States) -> dict[str, FloatArray]:
        """Run a stage that remembers; what it makes for others."""
        own = states[stage.name]
        mask = own.get("mask")
        if mask is not None and (empty := np.count_nonzero(mask)):
            mask[0, empty - 1] = 0.0
        made = self._run(stage, {**board, **own})
        for state in stage.states:
            own[state.input] = made[state.output]
        for state in stage.states:
            made.pop(state.output, None)
        return made

    def _run(self, stage: Stage, board: Tensors) -> dict[str, FloatArray]:
        return self._runtime(stage.name).step({name: board[name] for name in self._taken[stage.name]})

    def _runtime(self, name: StageName) -> StageRuntime:
        runtime = self._loaded.get(name)
        if runtime is None:
            for other in to_give_back(self.manifest, self._loaded, name):
                self._loaded.pop(other).close()
            runtime = self._runtimes(name)
            runtime.load(self._bundle)
            runtime.set_adapter(self._adapter)
            self._loaded[name] = runtime
        return runtime


def _fresh(stages: Iterable[Stage]) -> States:
    """Zeros for every state, and masks of windows that hold nothing."""
    states: States = {}
    for stage in stages:
        own = {state.input: np.zeros(stage.input(state.input).shape, dtype=np.float32) for state in stage.states}
        for spec in stage.inputs:
            if spec.name == "mask" and "mask" not in own:
                own["mask"] = np.full(spec.shape, MASKED, dtype=np.float32)
        states[stage.name] = own
    return states


def _shape(stage: Stage | None, name: str) -> tuple[int, ...] | None:
    return None if stage is None else stage.input(name).shape
