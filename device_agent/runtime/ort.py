"""ONNX Runtime: the reference backend, and the only one on a PC."""

from typing import Any

import numpy as np

from device_agent.adapters import Adapter, AdapterError
from device_agent.bundle import Bundle
from device_agent.bundle_manifest import FloatArray, Manifest, Stage
from device_agent.runtime.base import RuntimeFailure, Tensors

STAGE = "motion"


class OrtRuntime:
    """MotionRuntime on ONNX Runtime's CPU provider; one thread by default, so playback leaves cores to the picture."""

    def __init__(self, intra_op_threads: int = 1) -> None:
        self._threads = intra_op_threads
        self._session: Any = None
        self._manifest: Manifest | None = None
        self._bundle_sha256 = ""
        self._no_adapter: dict[str, FloatArray] = {}
        self._adapter: dict[str, FloatArray] = {}
        self._outputs: list[str] = []

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        return self._manifest

    def load(self, bundle: Bundle) -> None:
        import onnxruntime as ort  # 20 MB that an idle frame need not hold

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would burn the power between two steps of 40 ms.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(bundle.graph(STAGE, "onnx"), options, providers=["CPUExecutionProvider"])
        except RuntimeError as error:
            raise RuntimeFailure(f"The motion graph cannot be loaded: {_first_line(error)}") from error
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime"):
                raise RuntimeFailure(f"The motion graph cannot be loaded: {_first_line(error)}") from error
            raise
        manifest = bundle.manifest
        stage = manifest.stage(STAGE)
        _check_signature(session, stage)
        self._no_adapter = {tensor.name: _zeros(tensor.shape) for tensor in manifest.adapter.tensors}
        self._adapter = self._no_adapter
        self._outputs = [spec.name for spec in stage.outputs]
        self._session, self._manifest, self._bundle_sha256 = session, manifest, bundle.sha256

    def set_adapter(self, adapter: Adapter | None) -> None:
        if adapter is None:
            self._adapter = self._no_adapter
            return
        if adapter.base_model != self._bundle_sha256:
            raise AdapterError(f"The adapter {adapter.name} was loaded for another base model than the running one.")
        # One assignment: a step that runs in another thread sees all old tensors or all new ones.
        self._adapter = dict(adapter.tensors)

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        if self._session is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        try:
            values = self._session.run(self._outputs, {**inputs, **self._adapter})
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime") or isinstance(error, (RuntimeError, ValueError)):
                raise RuntimeFailure(f"The motion graph failed: {_first_line(error)}") from error
            raise
        return dict(zip(self._outputs, values, strict=True))


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
            raise RuntimeFailure(f"The motion graph's {kind}s are not those its manifest declares.")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".") + "."
