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
from device_agent.runtime.base import MotionRuntime, Tensors


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
    step_limit_ms: float

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
        if self.step_p50_ms > self.step_limit_ms:
            sentences.append(
                f"One step takes {self.step_p50_ms:.1f} ms; at most {self.step_limit_ms:.1f} ms is allowed."
            )
        return tuple(sentences)

    def segment(self, name: str) -> SegmentResult:
        for result in self.segments:
            if result.segment == name:
                return result
        raise KeyError(name)


class _TimedRuntime:
    """Passes steps through and notes how long each took."""

    def __init__(self, runtime: MotionRuntime) -> None:
        self._runtime = runtime
        self.manifest = runtime.manifest
        self.load = runtime.load
        self.set_adapter = runtime.set_adapter
        self.seconds: list[float] = []

    def step(self, inputs: Tensors) -> dict[str, FloatArray]:
        started = time.perf_counter()
        outputs = self._runtime.step(inputs)
        self.seconds.append(time.perf_counter() - started)
        return outputs


def evaluate(bundle: Bundle, runtime: MotionRuntime, adapter: Adapter | None = None) -> GoldenResult:
    """Load the bundle into the runtime, set the adapter, and measure the golden clips (about a second on one core).

    The runtime keeps bundle and adapter afterwards. Raises BundleError, AdapterError or RuntimeFailure.
    """
    runtime.load(bundle)
    runtime.set_adapter(adapter)
    timed = _TimedRuntime(runtime)
    mean_pose = np.array(bundle.manifest.motion.mean_pose, dtype=np.float32)
    errors: dict[str, list[FloatArray]] = {}
    resting: dict[str, list[FloatArray]] = {}
    for clip in bundle.golden_clips():
        motion = motion_for(timed, clip.audio)
        errors.setdefault(clip.segment, []).append(np.abs(motion - clip.expected))
        resting.setdefault(clip.segment, []).append(np.abs(mean_pose - clip.expected))
    limits = bundle.manifest.golden.limits_mm
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
        step_limit_ms=bundle.manifest.golden.step_limit_ms,
    )
