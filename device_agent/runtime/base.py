"""What a runtime offers. A backend (ONNX Runtime, RKNN) is chosen at start; nothing else differs."""

from collections.abc import Callable, Mapping
from typing import Protocol

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle_manifest import FloatArray, StageName

Tensors = Mapping[str, FloatArray]


class RuntimeFailure(RuntimeError):
    """The graph could not be loaded or run; the message is one sentence."""


class StageRuntime(Protocol):
    """Runs one stage of a bundle, one step at a time."""

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

        Shapes and dtypes are the manifest's; the outputs are the caller's own and are not written again.
        """
        ...

    def close(self) -> None:
        """Give back what the graph takes; another `load` may follow."""
        ...


RuntimeFactory = Callable[[StageName], StageRuntime]
"""Makes the runtime of a stage."""
