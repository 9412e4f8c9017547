"""The reference bundle as a fake NPU runs it."""

from functools import cache

from device_agent.bundle import Bundle
from tests.reference_model.artifacts import with_manifest


@cache
def npu_bundle() -> Bundle:
    """The reference bundle whose NPU graph is its ONNX graph."""
    return Bundle.open(with_manifest(lambda manifest: manifest["stages"][0]["graphs"].update(rknn="motion.onnx")))
