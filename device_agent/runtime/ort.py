"""ONNX Runtime: the reference backend, and the only one on a PC."""

from typing import Any

import numpy as np

from device_agent.adapters import Adapter, AdapterError
from device_agent.bundle import Bundle
from device_agent.bundle_manifest import FloatArray, Stage, StageName
from device_agent.runtime.base import RuntimeFailure, Tensors


class OrtRuntime:
    """StageRuntime on ONNX Runtime's CPU provider; one thread by default, so playback leaves cores to the picture."""

    def __init__(self, stage: StageName = "motion", intra_op_threads: int = 1) -> None:
        self._stage = stage
        self._threads = intra_op_threads
        self._session: Any = None
        self._bundle_sha256 = ""
        self._no_adapter: dict[str, FloatArray] = {}
        self._adapter: dict[str, FloatArray] = {}
        self._outputs: list[str] = []

    def load(self, bundle: Bundle) -> None:
        import onnxruntime as ort  # 20 MB that an idle frame need not hold

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
        except RuntimeError as error:
            raise RuntimeFailure(f"The graph of {self._stage} cannot be loaded: {_first_line(error)}") from error
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime"):
                raise RuntimeFailure(f"The graph of {self._stage} cannot be loaded: {_first_line(error)}") from error
            raise
        stage = bundle.manifest.stage(self._stage)
        _check_signature(session, stage)
        taken = {spec.name for spec in stage.inputs}
        self._no_adapter = {
            tensor.name: _zeros(tensor.shape) for tensor in bundle.manifest.adapter.tensors if tensor.name in taken
        }
        self._adapter = self._no_adapter
        self._outputs = [spec.name for spec in stage.outputs]
        self._session, self._bundle_sha256 = session, bundle.sha256

    def set_adapter(self, adapter: Adapter | None) -> None:
        if adapter is None:
            self._adapter = self._no_adapter
            return
        if adapter.base_model != self._bundle_sha256:
            raise AdapterError(f"The adapter {adapter.name} was loaded for another base model than the running one.")
        # One assignment: a step that runs in another thread sees all old tensors or all new ones.
        self._adapter = {name: adapter.tensors[name] for name in self._no_adapter}

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        if self._session is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        try:
            values = self._session.run(self._outputs, {**inputs, **self._adapter})
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime") or isinstance(error, (RuntimeError, ValueError)):
                raise RuntimeFailure(f"The graph of {self._stage} failed: {_first_line(error)}") from error
            raise
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        self._session = None


def _zeros(shape: tuple[int, ...]) -> FloatArray:
    zeros = np.zeros(shape, dtype=np.float32)
    zeros.flags.writeable = False
    return zeros


def _check_signature(session: Any, stage: Stage) -> None:
    for kind, specs, found in (
        ("input", stage.inputs, session.get_inputs()),
        ("output", stage.outputs, session.get_outputs()),
    ):
        declared = [(spec.name, list(spec.shape)) for spec in specs]
        if declared != [(node.name, list(node.shape)) for node in found]:
            raise RuntimeFailure(f"The {kind}s of the graph of {stage.name} are not those its manifest declares.")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".") + "."
