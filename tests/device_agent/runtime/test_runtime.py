import numpy as np
import pytest

from device_agent.bundle import Bundle
from device_agent.runtime import OrtRuntime, RuntimeFailure
from tests.reference_model.artifacts import bundle, with_manifest


def test_a_runtime_without_a_bundle_says_so() -> None:
    with pytest.raises(RuntimeFailure, match="load one first"):
        OrtRuntime().step({})


def test_a_graph_that_is_not_what_its_manifest_declares_is_refused() -> None:
    def shrink(manifest: dict[str, list[dict[str, list[dict[str, list[int]]]]]]) -> None:
        manifest["stages"][0]["inputs"][2]["shape"] = [1, 26]

    with pytest.raises(RuntimeFailure, match="not those its manifest declares"):
        OrtRuntime().load(Bundle.open(with_manifest(shrink)))


def test_a_step_with_a_missing_input_fails_with_a_sentence() -> None:
    runtime = OrtRuntime()
    runtime.load(bundle())
    with pytest.raises(RuntimeFailure, match=r"^The graph of motion failed: .+\.$"):
        runtime.step({"features": np.zeros((1, 320), np.float32)})
