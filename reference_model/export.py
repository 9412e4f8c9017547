"""The trained model as an ONNX graph of one step, and the proof that the graph answers like the model."""

import io

import numpy as np
import onnx
import torch

from device_agent.pipeline.features import FloatArray
from reference_model.network import MotionNet, StepNet, empty_mask
from reference_model.shape import A_SHAPE, B_SHAPE, INPUTS, KV_SHAPE, LOOK_AHEAD_STEPS, OUTPUT_SPECS, OUTPUTS

# RKNN's converter takes nothing newer.
OPSET = 19


def export_onnx(net: MotionNet) -> bytes:
    """The one-step graph with the inputs and outputs of shape.INPUTS and shape.OUTPUT_SPECS."""
    examples = (
        torch.zeros(INPUTS[0].shape),
        torch.zeros(KV_SHAPE),
        empty_mask(),
        torch.zeros(A_SHAPE),
        torch.zeros(B_SHAPE),
    )
    buffer = io.BytesIO()
    torch.onnx.export(
        StepNet(net).eval(),
        examples,
        buffer,
        dynamo=False,
        opset_version=OPSET,
        input_names=[spec.name for spec in INPUTS],
        output_names=[spec.name for spec in OUTPUT_SPECS],
    )
    model = onnx.load_from_string(buffer.getvalue())
    # Only what the graph needs: no notes about the machine it was made on.
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def motion_by_torch(net: MotionNet, features: FloatArray, a_all: FloatArray, b_all: FloatArray) -> FloatArray:
    """The model's motion for the features of a whole sound (steps, 320), by the sequence form."""
    steps = len(features)
    with torch.no_grad():
        answers = net(torch.from_numpy(features)[None], torch.from_numpy(a_all), torch.from_numpy(b_all))
    return np.asarray(answers[0].numpy()[LOOK_AHEAD_STEPS:], dtype=np.float32).reshape(
        steps - LOOK_AHEAD_STEPS, OUTPUTS
    )
