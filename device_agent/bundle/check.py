"""Whether the parts of a bundle's manifest fit together: sound, motion, adapter, stages, golden clips. Does no I/O."""

import math
from collections.abc import Iterator

from device_agent.bundle.manifest import (
    FORMAT,
    GIVEN,
    MOTION,
    MOTION_PARAMETERS,
    PER_STEP,
    REPAIRED,
    STAGE_ORDER,
    AdapterSignature,
    AudioSpec,
    Manifest,
    MotionSpec,
    Stage,
    TensorSpec,
    fail,
)

MAX_CLIP_SECONDS = 30
MAX_LOOK_AHEAD_STEPS = 25
MAX_TENSOR_VALUES = 1 << 24

Shapes = dict[str, tuple[int, ...]]


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
    if tuple(parameter.name for parameter in motion.parameters) != MOTION_PARAMETERS:
        fail(f"The bundle's motion must be {', '.join(MOTION_PARAMETERS)}, which is what this agent draws.")
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
    adapter: Shapes = {tensor.name: tensor.shape for tensor in manifest.adapter.tensors}
    steps: Shapes = {}
    prompt: Shapes = {}
    for stage in manifest.stages:
        _check_shapes(stage)
        _check_memory(manifest, stage)
        # What is made once per photo or per frame is not there in every step.
        known = {} if stage.name == "visual_prompt" else {**prompt, **steps}
        made = _check_tensors(stage, known, adapter, manifest.audio)
        if stage.name in PER_STEP:
            steps |= made
        elif stage.name == "visual_prompt":
            prompt = made
        elif made.get(REPAIRED) != next((spec.shape for spec in stage.inputs if spec.name == "mouth"), ()):
            fail(f"The bundle's stage {stage.name} must take a mouth and give it as repaired, in the same shape.")
    if steps.get(MOTION) != (1, len(manifest.motion.parameters)):
        fail("The bundle's stages must give a motion with one value per motion parameter.")
    if sum(stage.memory_mb for stage in manifest.stages if stage.name != "visual_prompt") > manifest.memory_mb:
        fail("The bundle's stages that run all the time need more memory together than the bundle's budget.")


def _check_tensors(stage: Stage, known: Shapes, adapter: Shapes, audio: AudioSpec) -> Shapes:
    """Whether a stage gets what it takes; what it makes for others."""
    states = {state.input: state.output for state in stage.states}
    made = {spec.name: spec.shape for spec in stage.outputs}
    if len(states) != len(stage.states) or states.keys() - {spec.name for spec in stage.inputs}:
        fail(f"The bundle's stage {stage.name} has a state that is not one of its inputs.")
    if states and stage.name == "visual_prompt":
        fail("The bundle's stage visual_prompt runs once per photo and can have no states.")
    if adapter.keys() & (states.keys() | made.keys()):
        fail(f"The bundle's stage {stage.name} uses the name of a tensor of the adapter for something else.")
    for spec in stage.inputs:
        if spec.name in states:
            source = made.get(states[spec.name])
        else:
            source = adapter.get(spec.name) or known.get(spec.name) or _given(stage, spec, audio)
        if source != spec.shape:
            fail(f"The bundle's stage {stage.name} has an input {spec.name} that nothing gives in its shape.")
    return {name: shape for name, shape in made.items() if name not in states.values()}


def _given(stage: Stage, spec: TensorSpec, audio: AudioSpec) -> tuple[int, ...] | None:
    """The shape in which the pipeline gives an input; as the stage likes it where it is a picture or a window."""
    if spec.name not in GIVEN[stage.name]:
        return None
    match spec.name, spec.shape:
        case "features", _:
            return (1, audio.hops_per_step * audio.coefficients)
        case "mask", (1, slots):
            return (1, slots)
        case (("photo" | "mouth"), (1, 3, height, width)):
            return (1, 3, height, width)
    return None


def _check_memory(manifest: Manifest, stage: Stage) -> None:
    if not 0 < stage.memory_mb <= manifest.memory_mb:
        fail(f"The bundle's stage {stage.name} needs more memory than the bundle's budget.")
    if max((manifest.files[name].length for name in stage.graphs.values()), default=0) > stage.memory_mb * 1_000_000:
        fail(f"The bundle's stage {stage.name} declares less memory than its graph has bytes.")


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
