"""The trial measurement: how far the lips are off on the bundle's golden clips, and how long a step takes.

Lip error is the mean absolute difference, over all steps of a segment's clips and the six mouth parameters, between
the model's motion and the expected motion (rule-based visemes on synthetic speech), in mm. The same measure of a mouth
that rests in the training set's mean pose is always given next to it: a model has skill only below that.
"""

import time
from dataclasses import dataclass

import numpy as np

from device_agent.adapters import Adapter
from device_agent.bundle import Bundle
from device_agent.bundle_manifest import FloatArray
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph, States
from device_agent.runtime import OrtRuntime, RuntimeFactory, Tensors


@dataclass(frozen=True)
class SegmentResult:
    """One segment's errors in mm; `limit_mm` is None where the bundle sets no limit."""

    segment: str
    lip_mm: float
    mean_pose_mm: float
    limit_mm: float | None
    steps: int

    @property
    def passed(self) -> bool:
        return self.limit_mm is None or self.lip_mm <= self.limit_mm


@dataclass(frozen=True)
class GoldenResult:
    """All segments and the time of one step in ms, median and 99th percentile, with the median's limit."""

    segments: tuple[SegmentResult, ...]
    step_p50_ms: float
    step_p99_ms: float
    step_limit_ms: float | None

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence per limit that was missed."""
        sentences = [
            f"The lip error on {result.segment} is {result.lip_mm:.2f} mm; at most {result.limit_mm:.2f} mm is allowed."
            for result in self.segments
            if not result.passed
        ]
        # The median: single slow steps tell of other work on the machine, not of the model.
        if self.step_limit_ms is not None and self.step_p50_ms > self.step_limit_ms:
            sentences.append(
                f"One step takes {self.step_p50_ms:.1f} ms; at most {self.step_limit_ms:.1f} ms is allowed."
            )
        return tuple(sentences)

    def segment(self, name: str) -> SegmentResult:
        for result in self.segments:
            if result.segment == name:
                return result
        raise KeyError(name)


class _TimedGraph(StageGraph):
    """Notes how long each step took."""

    def __init__(self, bundle: Bundle, runtimes: RuntimeFactory) -> None:
        super().__init__(bundle, runtimes)
        self.seconds: list[float] = []

    def step(self, given: Tensors, states: States) -> FloatArray:
        started = time.perf_counter()
        motion = super().step(given, states)
        self.seconds.append(time.perf_counter() - started)
        return motion


def evaluate(bundle: Bundle, adapter: Adapter | None = None, runtimes: RuntimeFactory = OrtRuntime) -> GoldenResult:
    """Measure the golden clips of a bundle with an adapter (about a second on one core).

    Raises BundleError, AdapterError or RuntimeFailure.
    """
    timed = _TimedGraph(bundle, runtimes)
    timed.set_adapter(adapter)
    mean_pose = np.array(bundle.manifest.motion.mean_pose, dtype=np.float32)
    errors: dict[str, list[FloatArray]] = {}
    resting: dict[str, list[FloatArray]] = {}
    for clip in bundle.golden_clips():
        motion = motion_for(timed, clip.audio)
        errors.setdefault(clip.segment, []).append(np.abs(motion - clip.expected))
        resting.setdefault(clip.segment, []).append(np.abs(mean_pose - clip.expected))
    limits = bundle.manifest.golden.limits.lip_mm
    segments = tuple(
        SegmentResult(
            segment=segment,
            lip_mm=float(np.concatenate(errors[segment]).mean(dtype=np.float64)),
            mean_pose_mm=float(np.concatenate(resting[segment]).mean(dtype=np.float64)),
            limit_mm=limits[segment],
            steps=sum(len(part) for part in errors[segment]),
        )
        for segment in errors
    )
    milliseconds = np.array(timed.seconds or [0.0]) * 1000.0
    return GoldenResult(
        segments=segments,
        step_p50_ms=float(np.percentile(milliseconds, 50)),
        step_p99_ms=float(np.percentile(milliseconds, 99)),
        step_limit_ms=bundle.manifest.golden.limits.step_p99_ms,
    )
