"""The RK3588's NPU through RKNNLite, Rockchip's Python interface.

RKNNLite answers -1 or None where something is wrong and seldom raises; here every such answer becomes an NpuFault. It
knows neither names nor shapes, so the manifest's order, shapes and dtypes are what is sent and what must come back.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray, RuntimeName, Stage, StageName
from device_agent.runtime.base import Inputs, NpuFault, RuntimeFailure, Tensors, first_line

CORE_MASKS = (0, 1, 2, 4, 3, 7)
"""RKNNLite's choices: let it choose; one core; cores 0 and 1; all three."""


def rknn_lite() -> Any:
    """A new RKNNLite object. Only an aarch64 frame has the package; raises ImportError elsewhere."""
    from rknnlite.api import RKNNLite

    return RKNNLite(verbose=False)


class RknnRuntime:
    """StageRuntime on the NPU. What the bundle carries for it is quantised, so motion differs by hundredths of a mm."""

    name: RuntimeName = "rknn"

    def __init__(self, stage: StageName = "motion", core_mask: int = 0, make: Callable[[], Any] = rknn_lite) -> None:
        """`core_mask`: one of `CORE_MASKS`; `make` gives a new RKNNLite object."""
        if core_mask not in CORE_MASKS:
            raise ValueError(f"The NPU's core mask must be one of {', '.join(map(str, CORE_MASKS))}, not {core_mask}.")
        self._stage = stage
        self._core_mask = core_mask
        self._make = make
        self._lite: Any = None
        self._inputs: Inputs | None = None
        self._outputs: Stage | None = None

    def load(self, bundle: Bundle) -> None:
        self.close()
        graph = bundle.graph(self._stage, "rknn")
        try:
            self._lite = self._make()
        except Exception as error:
            self._fail(f"RKNNLite is not to be had on this machine: {first_line(error)}", error)
        try:
            loaded = _load_graph(self._lite, graph)
            ready = self._lite.init_runtime(async_mode=False, core_mask=self._core_mask) if loaded == 0 else -1
        except Exception as error:
            self.close()
            self._fail(f"the NPU could not load it: {first_line(error)}", error)
        if loaded != 0 or ready != 0:
            # What was half made holds the NPU until it is released.
            self.close()
            self._fail("RKNNLite did not take the file." if loaded != 0 else "RKNNLite could not start the NPU.")
        stage = bundle.manifest.stage(self._stage)
        self._inputs, self._outputs = Inputs(bundle, stage), stage

    def set_adapter(self, adapter: Adapter | None) -> None:
        if self._inputs is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        self._inputs.set_adapter(adapter)

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        if self._inputs is None or self._outputs is None:
            raise RuntimeFailure("The runtime has no bundle yet; load one first.")
        ordered = [np.ascontiguousarray(value) for value in self._inputs.of(inputs).values()]
        try:
            # Without a format, inputs of four dimensions would be taken for NHWC; a list of formats is not understood.
            values = self._lite.inference(inputs=ordered, data_format="nchw", reuse_outputs=True)
        except Exception as error:
            self._fail(f"the NPU failed: {first_line(error)}", error)
        if values is None:
            self._fail("the NPU gave no answer.")
        specs = self._outputs.outputs
        if len(values) != len(specs):
            self._fail(f"the NPU gave {len(values)} outputs instead of {len(specs)}.")
        made = {}
        for spec, value in zip(specs, values, strict=True):
            if np.shape(value) != spec.shape:
                self._fail(f"the NPU gave {spec.name} as {list(np.shape(value))} instead of {list(spec.shape)}.")
            # A copy: the next call writes to these very arrays.
            made[spec.name] = np.array(value, dtype=np.float32)
        return made

    def close(self) -> None:
        lite, self._lite = self._lite, None
        self._inputs = self._outputs = None
        if lite is not None:
            with suppress(Exception):
                lite.release()

    def _fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise NpuFault(f"The graph of {self._stage} cannot run on the NPU: {what}") from cause


def _load_graph(lite: Any, graph: bytes) -> int:
    """RKNNLite wants a path and reads it at once: a file in memory that is gone when it is closed, or we are."""
    descriptor = os.memfd_create("graph.rknn")
    with os.fdopen(descriptor, "wb") as file:
        file.write(graph)
        file.flush()
        return int(lite.load_rknn(f"/proc/self/fd/{descriptor}"))
