"""What a bundle says about itself: `manifest.json` as structs, and whether it is consistent. Does no I/O."""

import math
from collections.abc import Iterator
from typing import Literal, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

FORMAT = 1
MAX_CLIP_SECONDS = 30
MAX_LOOK_AHEAD_STEPS = 25
MAX_TENSOR_VALUES = 1 << 24

FloatArray = npt.NDArray[np.float32]


class BundleError(ValueError):
    """The bundle cannot be used; the message is one sentence that says why."""


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a graph. `layout` is "nchw" for four dimensions, "nd" otherwise."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    layout: Literal["nd", "nchw"] = "nd"


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the pipeline: a graph per runtime ("onnx", later "rknn"), and its ordered inputs and outputs."""

    name: str
    graphs: dict[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise BundleError(f"The stage {self.name} of this bundle has no input named {name}.")


class AudioSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the motion stage listens to; samples are mono float32 in [-1, 1]."""

    sample_rate: int
    step_samples: int
    hops_per_step: int
    coefficients: int
    look_ahead_steps: int


class MotionParameter(msgspec.Struct, frozen=True, kw_only=True):
    """One mouth parameter with the range the renderer must be able to draw."""

    name: str
    minimum: float
    maximum: float


class MotionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The motion that comes out: one value per parameter and step; `mean_pose` is the training set's mean."""

    parameters: tuple[MotionParameter, ...]
    mean_pose: tuple[float, ...]
    unit: Literal["mm"] = "mm"
    mouth_width_mm: float = 50.0


class AdapterTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One packed LoRA factor with the range of values the graphs were calibrated for."""

    name: str
    shape: tuple[int, int]
    minimum: float
    maximum: float
    dtype: Literal["float16"] = "float16"


class AdapterSignature(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter for this bundle must look like."""

    rank: int
    tensors: tuple[AdapterTensor, ...]


class GoldenClipSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A clip of a segment: a 16-bit WAV and the expected motion, float32 little-endian, (steps, parameters)."""

    segment: str
    wav: str
    expected: str
    steps: int


class GoldenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The golden clips, the largest mean lip error allowed per segment (mm, or null) and the step time allowed."""

    clips: tuple[GoldenClipSpec, ...]
    limits_mm: dict[str, float | None]
    step_limit_ms: float


class FaceWeights(msgspec.Struct, frozen=True, kw_only=True):
    """The face models' files and where they come from."""

    detector: str
    mesh: str
    source: str
    licence: str


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Length in bytes and SHA-256 (hex) of one member."""

    length: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`."""

    format: int
    name: str
    stages: tuple[Stage, ...]
    audio: AudioSpec
    motion: MotionSpec
    adapter: AdapterSignature
    golden: GoldenSpec
    face: FaceWeights
    files: dict[str, FileEntry]

    def stage(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise BundleError(f"This bundle has no stage named {name}.")


def fail(sentence: str) -> NoReturn:
    """Refuse a bundle with one sentence."""
    raise BundleError(sentence)


def check_manifest(manifest: Manifest) -> None:
    """Whether the parts of a manifest fit together. Raises BundleError."""
    if manifest.format != FORMAT:
        fail(f"This bundle has format {manifest.format}; this agent understands format {FORMAT}.")
    for name in _named_files(manifest):
        if name not in manifest.files:
            fail(f"The bundle's manifest uses {name} without naming it among its files.")
    audio, motion, golden = manifest.audio, manifest.motion, manifest.golden
    if min(audio.sample_rate, audio.step_samples, audio.hops_per_step, audio.coefficients) < 1:
        fail("The bundle's audio settings must be positive numbers.")
    if not 0 <= audio.look_ahead_steps <= MAX_LOOK_AHEAD_STEPS:
        fail(f"The bundle's look-ahead must be between 0 and {MAX_LOOK_AHEAD_STEPS} steps.")
    if not motion.parameters or len(motion.mean_pose) != len(motion.parameters):
        fail("The bundle's mean pose must have one value per motion parameter.")
    if not all(math.isfinite(value) for value in motion.mean_pose):
        fail("The bundle's mean pose holds values that are not finite.")
    for spec in (spec for stage in manifest.stages for spec in (*stage.inputs, *stage.outputs)):
        if any(size < 1 for size in spec.shape) or math.prod(spec.shape) > MAX_TENSOR_VALUES:
            fail(f"The bundle's tensor {spec.name} has an impossible shape.")
    for tensor in manifest.adapter.tensors:
        if min(tensor.shape) < 1 or math.prod(tensor.shape) > MAX_TENSOR_VALUES or tensor.minimum > tensor.maximum:
            fail(f"The bundle's adapter tensor {tensor.name} has an impossible shape or range.")
    limit = MAX_CLIP_SECONDS * audio.sample_rate // audio.step_samples
    for clip in golden.clips:
        if not 1 <= clip.steps <= limit:
            fail(f"The golden clip {clip.wav} must last between one step and {MAX_CLIP_SECONDS} seconds.")
        if clip.segment not in golden.limits_mm:
            fail(f"The bundle sets no lip error limit for the segment {clip.segment}.")
        if manifest.files[clip.expected].length != clip.steps * len(motion.parameters) * 4:
            fail(f"The expected motion {clip.expected} does not have {clip.steps} steps.")


def _named_files(manifest: Manifest) -> Iterator[str]:
    for stage in manifest.stages:
        yield from stage.graphs.values()
    yield manifest.face.detector
    yield manifest.face.mesh
    for clip in manifest.golden.clips:
        yield clip.wav
        yield clip.expected
