"""The numbers of the reference motion model, and how its LoRA factors are packed. Needs no torch."""

import math

from device_agent.bundle.manifest import AdapterSignature, AdapterSlot, AdapterTensor, TensorSpec
from device_agent.pipeline.features import FEATURES_PER_STEP
from reference_model.visemes import PARAMETERS

LAYERS = 4
WIDTH = 160
HEADS = 4
HEAD_WIDTH = WIDTH // HEADS
INNER_WIDTH = 4 * WIDTH
# Keys one step attends to: itself and the 24 before it, one second.
WINDOW = 25
CACHED = WINDOW - 1
LOOK_AHEAD_STEPS = 2
RANK = 8
OUTPUTS = len(PARAMETERS)
# Training keeps every factor inside these ranges, and the INT8 graph's scales cover exactly them, so that it fits
# adapters trained later. They are half as wide again as what the first adapters need.
A_LIMIT = 0.75
B_LIMIT = 0.45


def _slots() -> tuple[AdapterSlot, ...]:
    sizes = [("input", FEATURES_PER_STEP, WIDTH)]
    for layer in range(LAYERS):
        sizes += [(f"layer{layer}.{name}", WIDTH, WIDTH) for name in ("query", "key", "value", "mix")]
        sizes += [(f"layer{layer}.up", WIDTH, INNER_WIDTH), (f"layer{layer}.down", INNER_WIDTH, WIDTH)]
    sizes.append(("output", WIDTH, OUTPUTS))
    slots: list[AdapterSlot] = []
    a_start = b_start = 0
    for name, inputs, outputs in sizes:
        slots.append(AdapterSlot(name=name, inputs=inputs, outputs=outputs, a_start=a_start, b_start=b_start))
        a_start += inputs
        b_start += outputs
    return tuple(slots)


SLOTS = _slots()
A_SHAPE = (SLOTS[-1].a_start + SLOTS[-1].inputs, RANK)
B_SHAPE = (RANK, SLOTS[-1].b_start + SLOTS[-1].outputs)
KV_SHAPE = (1, 2 * LAYERS, CACHED, WIDTH)

INPUTS = (
    TensorSpec(name="features", shape=(1, FEATURES_PER_STEP)),
    TensorSpec(name="kv_in", shape=KV_SHAPE, layout="nchw"),
    TensorSpec(name="mask", shape=(1, CACHED + 1)),
    TensorSpec(name="A_all", shape=A_SHAPE),
    TensorSpec(name="B_all", shape=B_SHAPE),
)
OUTPUT_SPECS = (
    TensorSpec(name="motion", shape=(1, OUTPUTS)),
    TensorSpec(name="kv_out", shape=KV_SHAPE, layout="nchw"),
)
ADAPTER_SIGNATURE = AdapterSignature(
    rank=RANK,
    tensors=(
        AdapterTensor(name="A_all", shape=A_SHAPE, minimum=-A_LIMIT, maximum=A_LIMIT),
        AdapterTensor(name="B_all", shape=B_SHAPE, minimum=-B_LIMIT, maximum=B_LIMIT),
    ),
    slots=SLOTS,
)


def parameter_count() -> int:
    """Weights and biases of all linear layers."""
    return sum(math.prod((slot.inputs, slot.outputs)) + slot.outputs for slot in SLOTS)
