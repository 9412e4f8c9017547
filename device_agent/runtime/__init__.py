"""Runtimes: one interface over ONNX Runtime and the RK3588's NPU."""

from device_agent.runtime.base import RuntimeFactory, RuntimeFailure, StageRuntime, Tensors
from device_agent.runtime.ort import OrtRuntime

__all__ = ["OrtRuntime", "RuntimeFactory", "RuntimeFailure", "StageRuntime", "Tensors"]
