"""RKNNLite's Python interface as an RK3588 would answer, over ONNX Runtime: the results are real, the NPU is not.

It answers as RKNNLite does: 0 or -1, a list or None, and no exceptions. It is stricter than RKNNLite where that would
give wrong numbers: inputs in another order, shape, dtype or memory layout, or four dimensions taken for NHWC.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


class FakeRknnLite:
    """`fails`: which call of which method goes wrong, counted from 1, such as {"inference": 3}."""

    def __init__(self, fails: dict[str, int] | None = None) -> None:
        self.fails = fails or {}
        self.calls: Counter[str] = Counter()
        self.core_mask: int | None = None
        self.path = ""
        self._graph: bytes | None = None
        self._session: Any = None
        self._outputs: list[np.ndarray] = []

    @property
    def held(self) -> bool:
        """Whether the NPU is taken."""
        return self._session is not None

    def load_rknn(self, path: str, key_path: str | None = None) -> int:
        self.path = path
        if self._goes_wrong("load_rknn") or not Path(path).exists():
            return -1
        self._graph = Path(path).read_bytes()
        return 0

    def init_runtime(
        self, target: str | None = None, device_id: str | None = None, async_mode: bool = False, core_mask: int = 0
    ) -> int:
        self.core_mask = core_mask
        if self._graph is None or target is not None or async_mode:
            return -1
        try:
            self._session = ort.InferenceSession(self._graph, providers=["CPUExecutionProvider"])
        except Exception:
            return -1
        # As in RKNNLite, what has been made by then stays until it is released.
        return -1 if self._goes_wrong("init_runtime") else 0

    def inference(
        self,
        inputs: list[np.ndarray],
        data_type: str | None = None,
        data_format: str | None = None,
        inputs_pass_through: list[int] | None = None,
        get_frame_id: bool = False,
        reuse_outputs: bool = False,
    ) -> list[np.ndarray] | None:
        if self._goes_wrong("inference") or self._session is None or data_format not in (None, "nchw", "nhwc"):
            return None
        nodes = self._session.get_inputs()
        if not isinstance(inputs, list) or len(inputs) != len(nodes):
            return None
        for value, node in zip(inputs, nodes, strict=True):
            if value.dtype != np.float32 or list(value.shape) != node.shape or not value.flags.c_contiguous:
                return None
            if value.ndim == 4 and data_format != "nchw":
                return None
        values = self._session.run(None, {node.name: value for node, value in zip(nodes, inputs, strict=True)})
        if not reuse_outputs:
            return list(values)
        if not self._outputs:
            self._outputs = [np.empty_like(value) for value in values]
        for kept, value in zip(self._outputs, values, strict=True):
            kept[...] = value
        return [kept[...] for kept in self._outputs]

    def release(self) -> None:
        self.calls["release"] += 1
        self._session, self._outputs = None, []

    def _goes_wrong(self, call: str) -> bool:
        self.calls[call] += 1
        return self.fails.get(call) == self.calls[call]
