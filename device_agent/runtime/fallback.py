"""The NPU first, the CPU when it fails: a fault costs a moment, not a playback."""

from collections.abc import Callable

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray, RuntimeName, StageName
from device_agent.runtime.base import NpuFault, StageRuntime, Tensors
from device_agent.runtime.ort import OrtRuntime
from device_agent.runtime.rknn import RknnRuntime

OnFault = Callable[[str], None]


class FallbackRuntime:
    """StageRuntime on the NPU, and from the first fault until the next `load` on ONNX Runtime.

    A stage's states are inputs like any other, so the step that failed is simply run again and the sound goes on. The
    CPU's graph is loaded when it is needed; the bundle must be open until then. `on_fault` gets one sentence per fault,
    and with `forced` one for a bundle that carries nothing for the NPU.
    """

    def __init__(
        self,
        stage: StageName,
        on_fault: OnFault,
        npu: StageRuntime | None = None,
        cpu: Callable[[], StageRuntime] | None = None,
        forced: bool = False,
    ) -> None:
        self._npu: StageRuntime = npu if npu is not None else RknnRuntime(stage)
        self._make_cpu = cpu if cpu is not None else lambda: OrtRuntime(stage)
        self._stage = stage
        self._on_fault = on_fault
        self._forced = forced
        self._running = self._npu
        self._bundle: Bundle | None = None
        self._adapter: Adapter | None = None

    @property
    def name(self) -> RuntimeName:
        return self._running.name

    def load(self, bundle: Bundle) -> None:
        self.close()
        self._bundle, self._adapter = bundle, None
        if "rknn" not in bundle.manifest.stage(self._stage).graphs:
            self._use_cpu(bundle)
            if self._forced:
                self._on_fault(f"The bundle carries no graph of {self._stage} for the NPU. The CPU runs it instead.")
            return
        try:
            self._npu.load(bundle)
        except NpuFault as fault:
            self._take_over(fault, bundle)

    def set_adapter(self, adapter: Adapter | None) -> None:
        self._running.set_adapter(adapter)
        self._adapter = adapter

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        try:
            return self._running.step(inputs)
        except NpuFault as fault:
            if self._bundle is None:
                raise
            self._take_over(fault, self._bundle)
        return self._running.step(inputs)

    def close(self) -> None:
        self._running.close()
        self._running, self._bundle = self._npu, None

    def _take_over(self, fault: NpuFault, bundle: Bundle) -> None:
        self._npu.close()
        self._use_cpu(bundle)
        self._on_fault(f"{fault} The CPU runs it instead.")

    def _use_cpu(self, bundle: Bundle) -> None:
        cpu = self._make_cpu()
        cpu.load(bundle)
        cpu.set_adapter(self._adapter)
        self._running = cpu
