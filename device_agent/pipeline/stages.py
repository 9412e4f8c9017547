"""The pipeline's graphs as one: named stages that hand each other named tensors.

audio features -> audio_encoder -> visual_prompt -> motion -> token_decoder -> face_repair -> compositor. A bundle says
which graph file serves which stage; a stage it leaves out is skipped, and what the next one needs must come from
elsewhere, which the manifest's check has made sure of. Stages load when they are first needed.
"""

from typing import Self

import numpy as np

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle_manifest import MOTION, FloatArray, Manifest, Stage, StageName
from device_agent.runtime.base import RuntimeFactory, StageRuntime, Tensors
from device_agent.runtime.ort import OrtRuntime

PER_STEP: tuple[StageName, ...] = ("audio_encoder", "motion", "token_decoder")
"""The stages between features and motion."""

States = dict[str, FloatArray]


class StageGraph:
    """The stages of one bundle. The bundle must stay open as long as the graph lives."""

    def __init__(self, bundle: Bundle, runtimes: RuntimeFactory = OrtRuntime) -> None:
        self._bundle = bundle
        self._runtimes = runtimes
        self._loaded: dict[StageName, StageRuntime] = {}
        self._adapter: Adapter | None = None
        self._steps = [stage for stage in bundle.manifest.stages if stage.name in PER_STEP]

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._bundle.manifest

    def set_adapter(self, adapter: Adapter | None) -> None:
        """Use this adapter from the next step on; None means the base model alone. Raises AdapterError."""
        for runtime in self._loaded.values():
            runtime.set_adapter(adapter)
        self._adapter = adapter

    def fresh_states(self) -> States:
        """The states before the first step of a sound."""
        return {
            state.input: np.zeros(stage.input(state.input).shape, dtype=np.float32)
            for stage in self._steps
            for state in stage.states
        }

    def step(self, given: Tensors, states: States) -> FloatArray:
        """One step from features to motion, (parameters,) in mm; `states` move on. Raises RuntimeFailure."""
        board = dict(given)
        for stage in self._steps:
            made = self._run(stage, {**board, **states})
            for state in stage.states:
                states[state.input] = made.pop(state.output)
            board |= made
        return board[MOTION].reshape(-1)

    def load(self) -> None:
        """Load the stages between features and motion now. Raises BundleError or RuntimeFailure."""
        for stage in self._steps:
            self._runtime(stage.name)

    def close(self) -> None:
        """Give back what the stages take."""
        for runtime in self._loaded.values():
            runtime.close()
        self._loaded.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, stage: Stage, board: Tensors) -> dict[str, FloatArray]:
        own = {tensor.name for tensor in self.manifest.adapter.tensors}
        inputs = {spec.name: board[spec.name] for spec in stage.inputs if spec.name not in own}
        return self._runtime(stage.name).step(inputs)

    def _runtime(self, name: StageName) -> StageRuntime:
        runtime = self._loaded.get(name)
        if runtime is None:
            runtime = self._runtimes(name)
            runtime.load(self._bundle)
            runtime.set_adapter(self._adapter)
            self._loaded[name] = runtime
        return runtime
