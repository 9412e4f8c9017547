"""Runtimes: one interface over ONNX Runtime now and the RK3588's NPU later."""

from device_agent.runtime.base import MotionRuntime, RuntimeFailure, Tensors
from device_agent.runtime.ort import OrtRuntime

__all__ = ["MotionRuntime", "OrtRuntime", "RuntimeFailure", "Tensors"]
