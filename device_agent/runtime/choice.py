"""Which runtime runs the stages of this machine."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from device_agent.bundle.manifest import StageName
from device_agent.runtime.base import RuntimeFactory, StageRuntime
from device_agent.runtime.fallback import FallbackRuntime, OnFault
from device_agent.runtime.ort import OrtRuntime
from device_agent.runtime.rknn import CORE_MASKS, RknnRuntime, rknn_lite

RuntimeChoice = Literal["auto", "onnx", "rknn"]

DEVICE_TREE = Path("/proc/device-tree/compatible")


def runtimes(
    choice: RuntimeChoice = "auto",
    core_mask: int = 0,
    on_fault: OnFault = lambda _: None,
    make: Callable[[], Any] = rknn_lite,
) -> RuntimeFactory:
    """A factory of runtimes by stage.

    "onnx" is ONNX Runtime alone. "rknn" is the NPU, and what it cannot load or run goes to ONNX Runtime, which
    `on_fault` is told once per fault. "auto" is the same on an RK3588 that has RKNNLite, but a stage for which the
    bundle carries no rknn graph is no fault; elsewhere it is "onnx". `core_mask` is RKNNLite's: one bit for each core,
    0 lets it choose. Raises ValueError with a sentence for another choice or mask.
    """
    if choice not in ("auto", "onnx", "rknn"):
        raise ValueError(f"The runtime must be auto, onnx or rknn, not {choice}.")
    if core_mask not in CORE_MASKS:
        raise ValueError(f"The NPU's core mask must be one of {', '.join(map(str, CORE_MASKS))}, not {core_mask}.")
    if choice == "onnx" or (choice == "auto" and not has_npu()):
        return OrtRuntime

    def on_npu(stage: StageName) -> StageRuntime:
        return FallbackRuntime(stage, on_fault, RknnRuntime(stage, core_mask, make), forced=choice == "rknn")

    return on_npu


def has_npu(device_tree: Path = DEVICE_TREE) -> bool:
    """Whether this machine is an RK3588 with RKNNLite installed."""
    try:
        compatible = device_tree.read_bytes().split(b"\0")
    except OSError:
        return False
    return any(name.startswith(b"rockchip,rk3588") for name in compatible) and find_spec("rknnlite") is not None
