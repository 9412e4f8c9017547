"""Runtimes: one interface over ONNX Runtime and the RK3588's NPU."""

from device_agent.runtime.base import NpuFault, RuntimeFactory, RuntimeFailure, StageRuntime, Tensors
from device_agent.runtime.choice import RuntimeChoice, has_npu, runtimes
from device_agent.runtime.ort import OrtRuntime

__all__ = [
    "NpuFault",
    "OrtRuntime",
    "RuntimeChoice",
    "RuntimeFactory",
    "RuntimeFailure",
    "StageRuntime",
    "Tensors",
    "has_npu",
    "runtimes",
]
