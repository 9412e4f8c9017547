"""What a runtime offers. A backend (ONNX Runtime, RKNN) is chosen at start; nothing else differs."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from device_agent.adapters import Adapter, AdapterError
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray, RuntimeName, Stage, StageName

Tensors = Mapping[str, FloatArray]


class RuntimeFailure(RuntimeError):
    """The graph could not be loaded or run; the message is one sentence."""


class NpuFault(RuntimeFailure):
    """The NPU refused to load or run what it should be able to; another runtime may do better."""


class StageRuntime(Protocol):
    """Runs one stage of a bundle, one step at a time. Belongs to one thread."""

    @property
    def name(self) -> RuntimeName:
        """What runs the graph now: "onnx" or "rknn"."""
        ...

    def load(self, bundle: Bundle) -> None:
        """Load the bundle's graph for this stage and drop any adapter. Raises BundleError or RuntimeFailure."""
        ...

    def set_adapter(self, adapter: Adapter | None) -> None:
        """Use this adapter from the next step on; None means the base model alone. Needs no reload.

        Raises AdapterError when the adapter was loaded for another bundle.
        """
        ...

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        """Run one step. `inputs` names every input of the stage except the adapter's tensors.

        Shapes and dtypes are the manifest's; the outputs are the caller's own and are not written again. Raises
        RuntimeFailure, and may be called again with the same inputs then.
        """
        ...

    def close(self) -> None:
        """Give back what the graph takes; another `load` may follow."""
        ...


RuntimeFactory = Callable[[StageName], StageRuntime]
"""Makes the runtime of a stage."""


class Inputs:
    """The inputs of a stage in the manifest's order: those of a step and the tensors of the adapter in use."""

    def __init__(self, bundle: Bundle, stage: Stage) -> None:
        taken = {spec.name for spec in stage.inputs}
        self._stage = stage
        self._sha256 = bundle.sha256
        self._nothing: Tensors = {
            tensor.name: _zeros(tensor.shape) for tensor in bundle.manifest.adapter.tensors if tensor.name in taken
        }
        self._adapter: Tensors = self._nothing

    def set_adapter(self, adapter: Adapter | None) -> None:
        """Use this adapter's tensors, or zeros. Raises AdapterError."""
        if adapter is None:
            self._adapter = self._nothing
            return
        if adapter.base_model != self._sha256:
            raise AdapterError(f"The adapter {adapter.name} was loaded for another base model than the running one.")
        # One assignment: a step that runs in another thread sees all old tensors or all new ones.
        self._adapter = {name: adapter.tensors[name] for name in self._nothing}

    def of(self, given: Tensors) -> dict[str, FloatArray]:
        """All inputs of a step by name, ordered. Raises RuntimeFailure where one is missing or not as declared."""
        adapter, ordered = self._adapter, {}
        for spec in self._stage.inputs:
            value = adapter.get(spec.name)
            if value is None:
                value = given.get(spec.name)
            if value is None:
                raise RuntimeFailure(f"The graph of {self._stage.name} failed: its input {spec.name} was not given.")
            if value.shape != spec.shape or value.dtype != np.float32:
                raise RuntimeFailure(
                    f"The graph of {self._stage.name} failed: its input {spec.name} must be float32 of the shape "
                    f"{list(spec.shape)}, not {value.dtype} of {list(value.shape)}."
                )
            ordered[spec.name] = value
        return ordered


def _zeros(shape: tuple[int, ...]) -> FloatArray:
    zeros = np.zeros(shape, dtype=np.float32)
    zeros.flags.writeable = False
    return zeros


def first_line(error: Exception) -> str:
    """What an error says, as the end of a sentence."""
    return (str(error).strip().split("\n", 1)[0] or type(error).__name__).rstrip(".") + "."
