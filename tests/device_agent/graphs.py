"""Small graphs for every stage, and bundles made of them: arithmetic that a test can redo by hand."""

import hashlib
from functools import cache
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from device_agent.bundle import MANIFEST, Bundle
from device_agent.bundle.manifest import FloatArray, Stage, StageName, State, TensorSpec
from device_agent.pipeline.stages import StageGraph
from reference_model.packing import write_zip
from tests.reference_model.artifacts import bundle, members

Shapes = dict[str, tuple[int, ...]]
Stages = dict[StageName, tuple[Stage, bytes]]
Node = tuple[str, tuple[str, ...], str, dict[str, Any]]
PARAMETERS = 6
PHOTO = (1, 3, 4, 4)
MOUTH = (1, 3, 2, 4)
MEMORY_MB = 10


def graph(inputs: Shapes, outputs: Shapes, nodes: list[Node], constants: dict[str, Any] | None = None) -> bytes:
    """An ONNX graph of float32 tensors. A node is (operator, inputs, output, attributes)."""

    def values(shapes: Shapes) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    made = helper.make_graph(
        [helper.make_node(operator, list(taken), [output], **more) for operator, taken, output, more in nodes],
        "stage",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def stage(name: StageName, inputs: Shapes, outputs: Shapes, states: dict[str, str] | None = None) -> Stage:
    """The manifest's entry; the same file serves both runtimes, as the fake NPU runs ONNX."""

    def specs(shapes: Shapes) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=key, shape=shape, layout="nchw" if len(shape) == 4 else "nd")
            for key, shape in shapes.items()
        )

    return Stage(
        name=name,
        graphs={"onnx": f"{name}.onnx", "rknn": f"{name}.onnx"},
        inputs=specs(inputs),
        outputs=specs(outputs),
        states=tuple(State(input=taken, output=given) for taken, given in (states or {}).items()),
        memory_mb=MEMORY_MB,
    )


@cache
def small_stages() -> dict[StageName, tuple[Stage, bytes]]:
    """All five stages.

    audio_encoder: level = mean(features); total = sum of all levels (its state `memory`); heard = sum(mask of 3 slots).
    visual_prompt: bias = mean(photo) + sum of the adapter's A. motion: coarse = level + bias + total + heard +
    sum(mask of 2 slots) + steps before this one (its own state `memory`). token_decoder: motion = coarse / 1000 + steps
    before this one. face_repair: repaired = mouth + bias + frames before this one.
    """
    one, rank = (1, 1), members_adapter()[0]["shape"]
    width, hot = (1, PARAMETERS), {"keepdims": 1}
    both = {"axes": np.array([0, 1])}
    takes: dict[StageName, tuple[Shapes, Shapes, dict[str, str], list[Node], dict[str, Any]]] = {
        "audio_encoder": (
            {"features": (1, 320), "memory": one, "mask": (1, 3)},
            {"level": one, "total": one, "heard": one, "memory_out": one},
            {"memory": "memory_out"},
            [
                ("ReduceMean", ("features",), "level", {"axes": [1], **hot}),
                ("Add", ("memory", "level"), "total", {}),
                ("Identity", ("total",), "memory_out", {}),
                ("ReduceSum", ("mask", "axes"), "heard", hot),
            ],
            both,
        ),
        "visual_prompt": (
            {"photo": PHOTO, "A_all": tuple(rank)},
            {"bias": one},
            {},
            [
                ("ReduceMean", ("photo",), "mean", {"axes": [1, 2, 3], **hot}),
                ("Reshape", ("mean", "flat"), "flat_mean", {}),
                ("ReduceSum", ("A_all", "axes"), "sum", hot),
                ("Add", ("flat_mean", "sum"), "bias", {}),
            ],
            {**both, "flat": np.array([1, 1])},
        ),
        "motion": (
            {"level": one, "bias": one, "total": one, "heard": one, "memory": width, "mask": (1, 2)},
            {"coarse": width, "memory_out": width},
            {"memory": "memory_out"},
            [
                ("Add", ("memory", "one"), "memory_out", {}),
                ("ReduceSum", ("mask", "axes"), "slots", hot),
                ("Sum", ("level", "bias", "total", "heard", "slots", "memory"), "coarse", {}),
            ],
            {**both, "one": np.float32(1)},
        ),
        "token_decoder": (
            {"coarse": width, "steps": one},
            {"motion": width, "steps_out": one},
            {"steps": "steps_out"},
            [
                ("Add", ("steps", "one"), "steps_out", {}),
                ("Mul", ("coarse", "small"), "fine", {}),
                ("Add", ("fine", "steps"), "motion", {}),
            ],
            {"one": np.float32(1), "small": np.float32(0.001)},
        ),
        "face_repair": (
            {"mouth": MOUTH, "bias": one, "frames": (1, 1, 1, 1)},
            {"repaired": MOUTH, "frames_out": (1, 1, 1, 1)},
            {"frames": "frames_out"},
            [
                ("Add", ("frames", "one"), "frames_out", {}),
                ("Sum", ("mouth", "bias", "frames"), "repaired", {}),
            ],
            {"one": np.float32(1)},
        ),
    }
    return {
        name: (stage(name, inputs, outputs, states), graph(inputs, outputs, nodes, constants))
        for name, (inputs, outputs, states, nodes, constants) in takes.items()
    }


def members_adapter() -> list[dict[str, Any]]:
    """The reference bundle's adapter tensors, as its manifest has them."""
    tensors: list[dict[str, Any]] = msgspec.json.decode(members()[MANIFEST])["adapter"]["tensors"]
    return tensors


def bundle_of(stages: Stages, memory_mb: int = 64, portrait: bytes | None = None) -> Bundle:
    """The reference bundle with these stages instead of its own, and maybe another portrait. Raises BundleError."""
    return Bundle.open(packed(stages, memory_mb, portrait))


def packed(stages: Stages, memory_mb: int = 64, portrait: bytes | None = None) -> bytes:
    """The bytes of such a bundle."""
    content = members()
    manifest = msgspec.json.decode(content[MANIFEST])
    for old in {name for entry in manifest["stages"] for name in entry["graphs"].values()}:
        del content[old], manifest["files"][old]
    new = {f"{name}.onnx": graph_bytes for name, (_, graph_bytes) in stages.items()}
    if portrait is not None:
        new[manifest["golden"]["portrait"]] = portrait
    for file, data in new.items():
        content[file] = data
        manifest["files"][file] = {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["stages"] = [msgspec.to_builtins(entry) for entry, _ in stages.values()]
    manifest["memory_mb"] = memory_mb
    content[MANIFEST] = msgspec.json.encode(manifest)
    return write_zip(content)


def small_bundle(*without: StageName, memory_mb: int = 64, portrait: bytes | None = None) -> Bundle:
    """A bundle of the small stages, less some."""
    return bundle_of({name: made for name, made in small_stages().items() if name not in without}, memory_mb, portrait)


def repaired(stages: StageGraph) -> FloatArray:
    """What the small face_repair makes of a black mouth."""
    mouth = stages.repair(np.zeros(MOUTH, np.float32))
    assert mouth is not None
    return mouth


def hungry_bundle(gigabytes: int) -> bytes:
    """The reference bundle with a motion stage that asks for this much memory in every step."""
    own = bundle().manifest.stage("motion")
    inputs = {spec.name: spec.shape for spec in own.inputs}
    outputs = {spec.name: spec.shape for spec in own.outputs}
    nodes: list[Node] = [
        ("ConstantOfShape", ("much",), "huge", {}),
        ("ReduceMean", ("huge",), "nothing", {"keepdims": 0}),
    ]
    for name in outputs:
        nodes += [("ConstantOfShape", (f"{name}_shape",), f"{name}_zeros", {})]
        nodes += [("Add", (f"{name}_zeros", "nothing"), name, {})]
    constants = {f"{name}_shape": np.array(shape) for name, shape in outputs.items()}
    hungry = graph(inputs, outputs, nodes, {"much": np.array([gigabytes << 28]), **constants})
    states = {state.input: state.output for state in own.states}
    return packed({"motion": (stage("motion", inputs, outputs, states), hungry)})
