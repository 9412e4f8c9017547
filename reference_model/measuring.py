"""Lip error of a model, an adapter or a mouth that rests, on clips whose right motion is known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.motion import motion_for
from device_agent.pipeline.stages import StageGraph


@dataclass(frozen=True)
class Sound:
    """Samples (n,) in [-1, 1] and the expected motion (steps, 6) in mm."""

    samples: FloatArray
    expected: FloatArray


def golden_sounds(bundle: Bundle) -> dict[str, tuple[Sound, ...]]:
    """The golden clips by segment, in the manifest's order."""
    sounds: dict[str, list[Sound]] = {}
    for clip in bundle.golden_clips():
        sounds.setdefault(clip.segment, []).append(Sound(clip.audio, clip.expected))
    return {segment: tuple(group) for segment, group in sounds.items()}


def motions(graph: StageGraph, sounds: Iterable[Sound]) -> list[FloatArray]:
    """The graph's motion for each sound."""
    return [motion_for(graph, sound.samples) for sound in sounds]


def mean_difference(ones: Iterable[FloatArray], others: Iterable[FloatArray]) -> float:
    """Mean absolute difference over all steps and parameters, in mm."""
    errors = [np.abs(one - other) for one, other in zip(ones, others, strict=True)]
    return round(float(np.concatenate(errors).mean(dtype=np.float64)), 4)


def lip_error(graph: StageGraph, sounds: Sequence[Sound]) -> float:
    """Mean lip error of the graph with the adapter it has, in mm."""
    return mean_difference(motions(graph, sounds), (sound.expected for sound in sounds))


def resting_error(mean_pose: FloatArray, sounds: Sequence[Sound]) -> float:
    """Mean lip error of a mouth that never leaves its mean pose, in mm."""
    expected = [sound.expected for sound in sounds]
    return mean_difference((np.broadcast_to(mean_pose, motion.shape) for motion in expected), expected)
