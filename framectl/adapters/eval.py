"""What adapters do to lips, on every segment's clips. Needs the model parts (`framefleet[model]`).

Lip error is device_agent.trial.golden's: the mean absolute difference, over all steps and mouth parameters, between
motion and expected motion, in mm.
"""

import math
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from device_agent.adapters import Adapter, load
from device_agent.bundle import Bundle, GoldenClip
from device_agent.bundle.manifest import FloatArray, Manifest
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph
from framectl.adapters.verdict import Evaluation, JudgedAdapter, SegmentErrors, judge
from framectl.errors import CommandFailed

MAX_CLIPS = 1000
MAX_CLIP_SECONDS = 60


def evaluate(
    bundle: Bundle, files: Sequence[Path], clips: Path | None, limits: Mapping[str, float | None]
) -> Evaluation:
    """Judge adapter files on the golden clips, or on a folder of clips; `limits` (mm) replace the bundle's.

    Raises CommandFailed, AdapterError, BundleError or RuntimeFailure.
    """
    manifest = bundle.manifest
    adapters = [load(file, bundle.sha256, manifest.adapter) for file in files]
    found = measure(bundle, adapters, bundle.golden_clips() if clips is None else clips_in(clips, manifest))
    if not found:
        raise CommandFailed("This bundle has no golden clips: give some with --clips.")
    known = {part.segment for part in found}
    for segment in limits:
        if segment not in known:
            raise CommandFailed(f"There are no clips of {segment!r}: leave its --limit away.")
    golden = clips is None and not limits
    limits_mm = {**manifest.golden.limits.lip_mm, **limits}
    judged = tuple(
        JudgedAdapter(
            file=str(file),
            name=adapter.name,
            segment=adapter.segment,
            sha256=adapter.sha256,
            verdicts=tuple(
                judge(
                    part,
                    part.adapter_mm[number],
                    limits_mm.get(part.segment),
                    own=part.segment == adapter.segment,
                    golden=golden,
                )
                for part in found
            ),
        )
        for number, (file, adapter) in enumerate(zip(files, adapters, strict=True))
    )
    return Evaluation(manifest.name, bundle.sha256, golden, limits_mm, found, judged)


def measure(bundle: Bundle, adapters: Sequence[Adapter], clips: Iterable[GoldenClip]) -> tuple[SegmentErrors, ...]:
    """Run all clips through the base model and through each adapter, over one loaded graph.

    Segments come in the order of their first clip. Raises BundleError, AdapterError or RuntimeFailure.
    """
    resting = np.array(bundle.manifest.motion.mean_pose, dtype=np.float32)
    columns = 2 + len(adapters)
    sums: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {}
    with StageGraph(bundle) as graph:
        for clip in clips:
            motions = [np.broadcast_to(resting, clip.expected.shape)]
            for adapter in (None, *adapters):
                graph.set_adapter(adapter)
                motions.append(motion_for(graph, clip.audio))
            total = sums.setdefault(clip.segment, [0.0] * columns)
            for column, motion in enumerate(motions):
                total[column] += float(np.abs(motion - clip.expected).sum(dtype=np.float64))
            count = counts.setdefault(clip.segment, [0, 0])
            count[0] += 1
            count[1] += len(clip.expected)
    width = len(resting)
    found = []
    for segment, total in sums.items():
        number, steps = counts[segment]
        mean_pose, base, *others = (value / (steps * width) for value in total)
        found.append(SegmentErrors(segment, number, steps, mean_pose, base, tuple(others)))
    return tuple(found)


def clips_in(folder: Path, manifest: Manifest) -> Iterator[GoldenClip]:
    """Clips from a folder, named as in a bundle: `<segment>-<number>.wav` beside `<segment>-<number>.motion`.

    A WAV is mono, 16 bit, at the bundle's rate; a `.motion` holds float32 little-endian, (steps, parameters) in mm.
    Raises CommandFailed with one sentence.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".wav")
    except OSError as error:
        raise CommandFailed(f"{folder} cannot be read: {error.strerror or error}.") from None
    if not 1 <= len(paths) <= MAX_CLIPS:
        raise CommandFailed(
            f"{folder} must hold 1 to {MAX_CLIPS} clips such as base-1.wav, each with its base-1.motion."
        )
    for path in paths:
        segment, dash, _ = path.stem.rpartition("-")
        if not dash or not segment:
            raise CommandFailed(f"{path.name} names no segment: call it, for example, base-1.wav.")
        samples = _samples(path, manifest.audio.sample_rate)
        steps = math.ceil(samples.size / manifest.audio.step_samples)
        yield GoldenClip(segment, path.name, samples, _motion(path.with_suffix(".motion"), steps, manifest))


def _samples(path: Path, rate: int) -> FloatArray:
    wanted = CommandFailed(f"{path} must be a mono 16-bit WAV at {rate} Hz, of at most {MAX_CLIP_SECONDS} s.")
    try:
        with wave.open(str(path), "rb") as clip:
            described = (clip.getnchannels(), clip.getsampwidth(), clip.getframerate())
            if described != (1, 2, rate) or clip.getnframes() > MAX_CLIP_SECONDS * rate:
                raise wanted
            frames = clip.readframes(MAX_CLIP_SECONDS * rate)
    except (wave.Error, EOFError, OSError):
        raise wanted from None
    samples = np.frombuffer(frames[: len(frames) // 2 * 2], dtype="<i2").astype(np.float32) / 32768.0
    if not samples.size:
        raise wanted
    return samples


def _motion(path: Path, steps: int, manifest: Manifest) -> FloatArray:
    width = len(manifest.motion.parameters)
    length = steps * width * 4
    try:
        with path.open("rb") as file:
            content = file.read(length + 1)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(content) != length:
        raise CommandFailed(f"{path} must hold {steps} steps of {width} float32 values, as its WAV has {steps} steps.")
    values = np.frombuffer(content, dtype="<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise CommandFailed(f"{path} holds values that are not finite.")
    return values.reshape(steps, width)
