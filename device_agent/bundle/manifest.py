"""What a bundle says about itself: `manifest.json` as structs. Whether it is consistent: `bundle.check`."""

from typing import Literal, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

FORMAT = 2

FloatArray = npt.NDArray[np.float32]

StageName = Literal["audio_encoder", "visual_prompt", "motion", "token_decoder", "face_repair"]
STAGE_ORDER: tuple[StageName, ...] = ("audio_encoder", "visual_prompt", "motion", "token_decoder", "face_repair")
"""The graphs of the pipeline in the order they run; features come before them and the compositor after, as code."""
RuntimeName = Literal["onnx", "rknn"]
PER_STEP: tuple[StageName, ...] = ("audio_encoder", "motion", "token_decoder")
"""The stages from features to motion, run every 40 ms. face_repair runs per frame, visual_prompt once per photo."""
GIVEN: dict[StageName, frozenset[str]] = {
    **dict.fromkeys(PER_STEP, frozenset({"features", "mask"})),
    "visual_prompt": frozenset({"photo"}),
    "face_repair": frozenset({"mouth"}),
}
"""Tensors the pipeline gives to each stage: features of a step (1, n); which slots of the stage's window hold something
(1, w), 0 or else -16; the face, RGB in 0..1 (1, 3, h, w); the mouth as drawn, RGB in 0..1 (1, 3, h, w)."""
MOTION = "motion"
MOTION_PARAMETERS = ("open", "width", "protrusion", "jaw", "tuck", "tongue")
"""What the compositor draws, in this order."""
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
