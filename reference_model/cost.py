"""What one step of a graph costs, counted from the graph itself. Needs onnx."""

import math

import onnx

HOW_COUNTED = (
    "Twice the multiply-accumulates of every MatMul and Gemm of the step's graph, adapter and attention included,"
    " divided by 1e9; one step is one frame at 25 frames a second. Element-wise operators are left out."
)


def gflop_per_step(graph: bytes) -> float:
    """GFLOP of one step of the graph, as HOW_COUNTED says."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph), strict_mode=True, data_prop=True)
    known = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in known}
    shapes |= {value.name: list(value.dims) for value in model.graph.initializer}
    operations = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            raise ValueError("The cost of a convolution is not counted; extend gflop_per_step.")
        if node.op_type in ("MatMul", "Gemm"):
            if any(item.name == "transA" and item.i for item in node.attribute):
                raise ValueError("The cost of a transposed product is not counted; extend gflop_per_step.")
            operations += 2 * shapes[node.input[0]][-1] * math.prod(shapes[node.output[0]])
    return round(operations / 1e9, 6)
