"""What a bundle says about itself: `manifest.json` as structs, and whether it is consistent. Does no I/O."""

import math
from collections.abc import Iterator
from typing import Literal, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

FORMAT = 2
MAX_CLIP_SECONDS = 30
MAX_LOOK_AHEAD_STEPS = 25
MAX_TENSOR_VALUES = 1 << 24

FloatArray = npt.NDArray[np.float32]

StageName = Literal["audio_encoder", "visual_prompt", "motion", "token_decoder", "face_repair"]
STAGE_ORDER: tuple[StageName, ...] = ("audio_encoder", "visual_prompt", "motion", "token_decoder", "face_repair")
"""The graphs of the pipeline in the order they run; features come before them and the compositor after, as code."""
RuntimeName = Literal["onnx", "rknn"]
GIVEN = frozenset({"features", "photo", "mask", "mouth"})
"""Tensors the pipeline gives: features of a step (1, n); the face, RGB in 0..1 (1, 3, h, w); which slots of the window
hold something (0, else -16); the mouth as drawn, RGB in 0..1 (1, 3, h, w)."""
MOTION = "motion"
REPAIRED = "repaired"


class BundleError(ValueError):
    """The bundle cannot be used; the message is one sentence that says why."""


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a graph. `layout` is "nchw" for four dimensions, "nd" otherwise."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    layout: Literal["nd", "nchw"] = "nd"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor that a stage hands itself: the `output` of one step is the `input` of the next, zeros at first."""

    input: str
    output: str


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One graph of the pipeline, per runtime, with its ordered inputs and outputs.

    `memory_mb` is what it takes once loaded. Every input is given by the pipeline (`GIVEN`), a state, a tensor of the
    adapter, or an output of an earlier stage of the same name.
    """

    name: StageName
    graphs: dict[RuntimeName, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[State, ...] = ()
    memory_mb: int

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


class AdapterSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Where one linear layer's LoRA factors lie: rows of the first tensor from `a_start`, columns of the second from
    `b_start`. `name` is the layer's module, as PEFT names it."""

    name: str
    inputs: int
    outputs: int
    a_start: int
    b_start: int


class AdapterSignature(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter for this bundle must look like: two tensors, A (inputs of all layers, rank) and B (rank, outputs
    of all layers), and which part of them belongs to which layer."""

    rank: int
    tensors: tuple[AdapterTensor, ...]
    slots: tuple[AdapterSlot, ...]


class GoldenClipSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A clip of a segment: a 16-bit WAV and the expected motion, float32 little-endian, (steps, parameters)."""

    segment: str
    wav: str
    expected: str
    steps: int


class TrialLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a release may not exceed in its trial; null means that nothing is demanded.

    `lip_mm` is the mean lip error per segment. `power_w` (mean over a playback) and `energy_j` (of one playback) bind
    only where a meter exists, `memory_mb` is the largest resident memory of the rendering process.
    """

    lip_mm: dict[str, float | None]
    step_p99_ms: float | None = None
    memory_mb: float | None = None
    power_w: float | None = None
    energy_j: float | None = None


class GoldenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a release is tried with: golden clips, a portrait to let speak, and the limits."""

    clips: tuple[GoldenClipSpec, ...]
    portrait: str
    limits: TrialLimits


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
    memory_mb: int
    """What all loaded stages may take together."""
    stages: tuple[Stage, ...]
    audio: AudioSpec
    motion: MotionSpec
    adapter: AdapterSignature
    golden: GoldenSpec
    face: FaceWeights
    files: dict[str, FileEntry]

    def find_stage(self, name: StageName) -> Stage | None:
        """The stage of this name, None where the bundle leaves it out."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def stage(self, name: StageName) -> Stage:
        """The stage of this name. Raises BundleError."""
        stage = self.find_stage(name)
        if stage is None:
            raise BundleError(f"This bundle has no stage named {name}.")
        return stage


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
    _check_sound_and_motion(manifest.audio, manifest.motion)
    _check_adapter(manifest.adapter)
    _check_stages(manifest)
    _check_golden(manifest)


def _check_sound_and_motion(audio: AudioSpec, motion: MotionSpec) -> None:
    if min(audio.sample_rate, audio.step_samples, audio.hops_per_step, audio.coefficients) < 1:
        fail("The bundle's audio settings must be positive numbers.")
    if not 0 <= audio.look_ahead_steps <= MAX_LOOK_AHEAD_STEPS:
        fail(f"The bundle's look-ahead must be between 0 and {MAX_LOOK_AHEAD_STEPS} steps.")
    if not motion.parameters or len(motion.mean_pose) != len(motion.parameters):
        fail("The bundle's mean pose must have one value per motion parameter.")
    if not all(math.isfinite(value) for value in motion.mean_pose):
        fail("The bundle's mean pose holds values that are not finite.")


def _check_adapter(adapter: AdapterSignature) -> None:
    for tensor in adapter.tensors:
        if min(tensor.shape) < 1 or math.prod(tensor.shape) > MAX_TENSOR_VALUES or tensor.minimum > tensor.maximum:
            fail(f"The bundle's adapter tensor {tensor.name} has an impossible shape or range.")
    if not adapter.tensors and not adapter.slots:
        return  # a model that takes no adapters
    if [tensor.shape for tensor in adapter.tensors] != [
        (sum(slot.inputs for slot in adapter.slots), adapter.rank),
        (adapter.rank, sum(slot.outputs for slot in adapter.slots)),
    ]:
        fail("The bundle's adapter tensors must be A (all inputs, rank) and B (rank, all outputs) of its slots.")
    a_end = b_end = 0
    for slot in adapter.slots:
        if (slot.a_start, slot.b_start) != (a_end, b_end) or min(slot.inputs, slot.outputs) < 1:
            fail(f"The bundle's adapter slot {slot.name} does not follow on the one before it.")
        a_end, b_end = a_end + slot.inputs, b_end + slot.outputs


def _check_stages(manifest: Manifest) -> None:
    names = [stage.name for stage in manifest.stages]
    if names != [name for name in STAGE_ORDER if name in names] or "motion" not in names:
        fail(f"The bundle's stages must be motion and any of the others, each once, ordered {', '.join(STAGE_ORDER)}.")
    known: dict[str, tuple[int, ...]] = {tensor.name: tensor.shape for tensor in manifest.adapter.tensors}
    for stage in manifest.stages:
        _check_shapes(stage)
        states = {state.input: state.output for state in stage.states}
        made = {spec.name: spec.shape for spec in stage.outputs}
        for spec in stage.inputs:
            source = known.get(spec.name)
            if spec.name in states:
                source = made.get(states[spec.name])
            elif source is None and spec.name in GIVEN:
                source = spec.shape
            if source != spec.shape:
                fail(f"The bundle's stage {stage.name} has an input {spec.name} that nothing gives in its shape.")
        if len(states) != len(stage.states) or states.keys() - {spec.name for spec in stage.inputs}:
            fail(f"The bundle's stage {stage.name} has a state that is not one of its inputs.")
        known |= {name: shape for name, shape in made.items() if name not in states.values()}
        if not 0 < stage.memory_mb <= manifest.memory_mb:
            fail(f"The bundle's stage {stage.name} needs more memory than the bundle's budget.")
    if known.get(MOTION) != (1, len(manifest.motion.parameters)):
        fail("The bundle's stages must give a motion with one value per motion parameter.")


def _check_shapes(stage: Stage) -> None:
    for spec in (*stage.inputs, *stage.outputs):
        if any(size < 1 for size in spec.shape) or math.prod(spec.shape) > MAX_TENSOR_VALUES:
            fail(f"The bundle's tensor {spec.name} has an impossible shape.")
        if (len(spec.shape) == 4) != (spec.layout == "nchw"):
            fail(f"The bundle's tensor {spec.name} must say nchw if it has four dimensions, and nd otherwise.")
    for specs in (stage.inputs, stage.outputs):
        if len({spec.name for spec in specs}) != len(specs):
            fail(f"The bundle's stage {stage.name} names a tensor twice.")
    if not stage.graphs:
        fail(f"The bundle's stage {stage.name} has no graph.")


def _check_golden(manifest: Manifest) -> None:
    audio, golden = manifest.audio, manifest.golden
    limits = golden.limits
    numbers = (*limits.lip_mm.values(), limits.step_p99_ms, limits.memory_mb, limits.power_w, limits.energy_j)
    if not all(number is None or (math.isfinite(number) and number > 0) for number in numbers):
        fail("The bundle's limits must be positive numbers or null.")
    longest = MAX_CLIP_SECONDS * audio.sample_rate // audio.step_samples
    for clip in golden.clips:
        if not 1 <= clip.steps <= longest:
            fail(f"The golden clip {clip.wav} must last between one step and {MAX_CLIP_SECONDS} seconds.")
        if clip.segment not in limits.lip_mm:
            fail(f"The bundle sets no lip error limit for the segment {clip.segment}.")
        if manifest.files[clip.expected].length != clip.steps * len(manifest.motion.parameters) * 4:
            fail(f"The expected motion {clip.expected} does not have {clip.steps} steps.")


def _named_files(manifest: Manifest) -> Iterator[str]:
    for stage in manifest.stages:
        yield from stage.graphs.values()
    yield manifest.face.detector
    yield manifest.face.mesh
    yield manifest.golden.portrait
    for clip in manifest.golden.clips:
        yield clip.wav
        yield clip.expected
