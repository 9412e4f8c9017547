"""ONNX Runtime: the reference backend, and the only one on a PC."""

from typing import Any

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray, RuntimeName, Stage, StageName
from device_agent.runtime.base import Inputs, RuntimeFailure, Tensors, first_line


class OrtRuntime:
    """StageRuntime on ONNX Runtime's CPU provider; one thread by default, so playback leaves cores to the picture."""

    name: RuntimeName = "onnx"

    def __init__(self, stage: StageName = "motion", intra_op_threads: int = 1) -> None:
        self._stage = stage
        self._threads = intra_op_threads
        self._session: Any = None
        self._inputs: Inputs | None = None
        self._outputs: list[str] = []

    def load(self, bundle: Bundle) -> None:
        import onnxruntime as ort  # 20 MB that an idle frame need not hold

        self.close()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would burn the power between two steps of 40 ms.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(
                bundle.graph(self._stage, "onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            if _is_ours(error):
                raise RuntimeFailure(f"The graph of {self._stage} cannot be loaded: {first_line(error)}") from error
            raise
        stage = bundle.manifest.stage(self._stage)
        _check_signature(session, stage)
        self._outputs = [spec.name for spec in stage.outputs]
        self._session, self._inputs = session, Inputs(bundle, stage)

    def set_adapter(self, adapter: Adapter | None) -> None:
        if self._inputs is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        self._inputs.set_adapter(adapter)

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        if self._session is None or self._inputs is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        ordered = self._inputs.of(inputs)
        try:
            values = self._session.run(self._outputs, ordered)
        except Exception as error:
            if _is_ours(error):
                raise RuntimeFailure(f"The graph of {self._stage} failed: {first_line(error)}") from error
            raise
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        self._session = self._inputs = None


def _is_ours(error: Exception) -> bool:
    # ONNX Runtime's own errors derive from Exception alone, and some of its bindings raise plain ones.
    if type(error).__module__.startswith("onnxruntime"):
        return True
    return isinstance(error, RuntimeError) or type(error) is ValueError


def _check_signature(session: Any, stage: Stage) -> None:
    for kind, specs, found in (
        ("input", stage.inputs, session.get_inputs()),
        ("output", stage.outputs, session.get_outputs()),
    ):
        declared = [(spec.name, list(spec.shape), "tensor(float)") for spec in specs]
        if declared != [(node.name, list(node.shape), node.type) for node in found]:
            raise RuntimeFailure(f"The {kind}s of the graph of {stage.name} are not those its manifest declares.")
