import json

import pytest

onnx = pytest.importorskip("onnx")

from reference_model.cost import gflop_per_step  # noqa: E402
from tests.reference_model.artifacts import FOLDER, bundle  # noqa: E402


def test_the_reported_cost_is_the_committed_graph_s() -> None:
    reported = json.loads((FOLDER / "report.json").read_text())["gflop_per_frame"]
    assert gflop_per_step(bundle().graph("motion", "onnx")) == reported


def test_a_product_costs_twice_its_multiplications() -> None:
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", float32, [1000, 3]), helper.make_tensor_value_info("b", float32, [3, 500])],
        [helper.make_tensor_value_info("c", float32, [1000, 500])],
    )
    assert gflop_per_step(helper.make_model(graph).SerializeToString()) == 2 * 1000 * 3 * 500 / 1e9
