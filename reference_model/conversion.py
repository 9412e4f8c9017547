"""The motion stage's ONNX graph as INT8 for the RK3588's NPU, and that graph in the converter's simulator on a PC.

Needs rknn-toolkit2 (its own environment: requirements/rknn.txt). The converter keeps its log to itself unless it fails.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle.manifest import AdapterSignature, FloatArray, RuntimeName, Stage
from device_agent.runtime import OrtRuntime, RuntimeFailure, Tensors
from device_agent.runtime.base import Inputs

PLATFORM = "rk3588"
# Only a converter that talks prints which operators stay on the CPU. This is how its library is told to.
LOG_LEVEL = ("RKNN_LOG_LEVEL", "5")
# The converter writes memory it never filled into its file. With this, glibc fills it, and the same graph and the same
# calibration give the same bytes.
FILLED_MEMORY = ("MALLOC_PERTURB_", "255")
# The features span 160 units, and the finest of them half a unit: one INT8 scale for all moves the lips by 0.1 mm. They
# stay in float16 from the input to where they have been normalised; the names are the converter's own.
IN_FLOAT16 = [["features", "/Mul_output_0-rs"]]
_ROW = re.compile(r"^D RKNN: \[[^\]]*\]\s+\d+\s+(\w+)\s+\w+\s+(CPU|NPU)\s.*\s(\w+):(\S+)\s*$", re.MULTILINE)
_LOG_LINES = 12


class ConversionError(RuntimeError):
    """The converter refused; the message says at which step and ends with its last lines."""


class RecordingRuntime(OrtRuntime):
    """ONNX Runtime that keeps every `every`-th step's inputs, in the manifest's order, for the calibration."""

    def __init__(self, bundle: Bundle, folder: Path, every: int) -> None:
        super().__init__("motion")
        self._names = [spec.name for spec in bundle.manifest.stage("motion").inputs]
        self._signature = bundle.manifest.adapter
        self._folder = folder
        self._every = every
        self._steps = 0
        self._factors: dict[str, str] = {}
        self._adapters = 0
        self.lines: list[str] = []

    def set_adapter(self, adapter: Adapter | None) -> None:
        super().set_adapter(adapter)
        self._factors = {}
        for name, values in reaching_its_range(adapter, self._signature).items():
            self._factors[name] = self._save(f"adapter{self._adapters}-{name}", values)
        self._adapters += 1

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        if self._steps % self._every == 0:
            saved = {name: self._save(f"step{self._steps}-{name}", values) for name, values in inputs.items()}
            self.lines.append(" ".join((saved | self._factors)[name] for name in self._names))
        self._steps += 1
        return super().step(inputs)

    def dataset(self) -> Path:
        """The list of what was kept, as the converter reads it: paths relative to itself, one step per line."""
        path = self._folder / "dataset.txt"
        path.write_text("\n".join(self.lines) + "\n")
        return path

    def _save(self, stem: str, values: FloatArray) -> str:
        np.save(self._folder / f"{stem}.npy", values)
        return f"{stem}.npy"


def reaching_its_range(adapter: Adapter | None, signature: AdapterSignature) -> dict[str, FloatArray]:
    """An adapter's tensors (zeros for none) with one value at either end of the declared range.

    The graph's INT8 scale for a factor then covers what the manifest allows: no later adapter is cut off.
    """
    tensors: dict[str, FloatArray] = {}
    for declared in signature.tensors:
        values = np.zeros(declared.shape, np.float32) if adapter is None else np.array(adapter.tensors[declared.name])
        values[0, 0], values[-1, -1] = declared.minimum, declared.maximum
        tensors[declared.name] = values
    return tensors


@dataclass(frozen=True)
class Operators:
    """How many operators the graph has, and those that stay on the CPU, as "kind name"."""

    total: int
    on_cpu: tuple[str, ...]


class Simulator:
    """StageRuntime on the converter's simulator of the NPU, for the graph that was built in this process."""

    name: RuntimeName = "rknn"

    def __init__(self, stage: Stage, rknn: Any, graph: bytes, operators: Operators) -> None:
        self.graph = graph
        """The converted file."""
        self.operators = operators
        self._stage = stage
        self._rknn = rknn
        self._inputs: Inputs | None = None

    def load(self, bundle: Bundle) -> None:
        self._inputs = Inputs(bundle, self._stage)

    def set_adapter(self, adapter: Adapter | None) -> None:
        self._loaded().set_adapter(adapter)

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        ordered = list(self._loaded().of(inputs).values())
        values = self._rknn.inference(inputs=ordered, data_format="nchw")
        if values is None:
            raise RuntimeFailure("The simulator could not run a step.")
        return {
            spec.name: np.array(value, dtype=np.float32).reshape(spec.shape)
            for spec, value in zip(self._stage.outputs, values, strict=True)
        }

    def close(self) -> None:
        self._inputs = None

    def _loaded(self) -> Inputs:
        if self._inputs is None:
            raise RuntimeFailure("The simulator has no bundle yet; load one first.")
        return self._inputs


def convert(stage: Stage, onnx: bytes, dataset: Path) -> Simulator:
    """Quantise a stage's graph with the calibration steps listed in `dataset`; files are written beside it.

    Raises ConversionError.
    """
    from rknn.api import RKNN

    settings = {"target_platform": PLATFORM, "quantized_dtype": "w8a8"}
    graph, converted = Path(f"{stage.name}.onnx"), Path(f"{stage.name}.rknn")
    # The converter leaves its files between two steps where it was started.
    with chdir(dataset.parent), _captured(dataset.parent / "log") as log:
        graph.write_bytes(onnx)
        planner = RKNN(verbose=True)
        _done(log, "configuring", planner.config(**settings))
        loaded = planner.load_onnx(
            str(graph),
            inputs=[spec.name for spec in stage.inputs],
            input_size_list=[list(spec.shape) for spec in stage.inputs],
            outputs=[spec.name for spec in stage.outputs],
        )
        _done(log, "reading the graph", loaded)
        planned = planner.hybrid_quantization_step1(dataset=str(dataset), custom_hybrid=IN_FLOAT16)
        _done(log, "calibrating", planned)
        planner.release()
        rknn = RKNN(verbose=True)
        _done(log, "configuring", rknn.config(**settings))
        built = rknn.hybrid_quantization_step2(
            model_input=f"{stage.name}.model",
            data_input=f"{stage.name}.data",
            model_quantization_cfg=f"{stage.name}.quantization.cfg",
        )
        _done(log, "building", built)
        _done(log, "exporting", rknn.export_rknn(str(converted)))
        _done(log, "starting the simulator", rknn.init_runtime())
        content = converted.read_bytes()
    return Simulator(stage, rknn, content, operators_in(log.read_text(errors="replace")))


def operators_in(log: str) -> Operators:
    """The operators in the table that the converter prints."""
    rows = _ROW.findall(log)
    return Operators(len(rows), tuple(f"{kind} {name}" for kind, target, _, name in rows if target == "CPU"))


def _done(log: Path, what: str, code: int) -> None:
    if code != 0:
        lines = re.split(r"[\r\n]+", log.read_text(errors="replace"))[-_LOG_LINES:]
        raise ConversionError("\n".join([f"The converter failed at {what}. Its last lines:", *lines]))


@contextmanager
def _captured(path: Path) -> Iterator[Path]:
    """Sends what this process and its libraries print into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield path
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, number)
            os.close(saved)
