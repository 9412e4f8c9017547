"""From sound to motion: one (6,) float32 array of mouth parameters in mm per 40 ms.

The graph runs one step at a time. It answers `look_ahead_steps` late, because a mouth moves before its sound: the
answers to the first steps are dropped and the end of the sound is followed by silence, so that step t of the motion
belongs to step t of the sound. Memory is bounded: the graph sees a fixed window of keys and values, and nothing else
is kept however long the sound lasts.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

from device_agent.pipeline.features import (
    COEFFICIENTS,
    HOPS_PER_STEP,
    SAMPLE_RATE,
    STEP_SAMPLES,
    FeatureExtractor,
    FloatArray,
)
from device_agent.pipeline.stages import StageGraph
from device_agent.runtime.base import RuntimeFailure

MAX_WAITING = 256
"""Pieces of sound that may be pushed before the motion they complete is asked for."""


class MotionStream:
    """The motion of one sound. Push samples as they come, then finish; a new sound needs a new stream."""

    def __init__(self, graph: StageGraph) -> None:
        manifest = graph.manifest
        audio = manifest.audio
        ours = (SAMPLE_RATE, STEP_SAMPLES, HOPS_PER_STEP, COEFFICIENTS)
        if (audio.sample_rate, audio.step_samples, audio.hops_per_step, audio.coefficients) != ours:
            raise RuntimeFailure("This bundle wants other audio features than this agent computes; update the agent.")
        self._graph = graph
        self._extractor = FeatureExtractor()
        self._waiting: deque[FloatArray] = deque()
        self._samples = 0
        self._states = graph.start()
        self._look_ahead = audio.look_ahead_steps
        self._to_drop = audio.look_ahead_steps
        self._finished = False
        parameters = manifest.motion.parameters
        self._lowest = np.array([parameter.minimum for parameter in parameters], dtype=np.float32)
        self._highest = np.array([parameter.maximum for parameter in parameters], dtype=np.float32)

    def push(self, samples: FloatArray) -> Iterator[FloatArray]:
        """Take mono 16 kHz samples in [-1, 1] and give the motion they complete, each computed when it is asked for.

        Nothing is copied or computed ahead, so an hour costs no more than its samples: leave them as they are until
        their motion has been asked for. What one iterator did not deliver, the next one does. Iterating raises
        RuntimeFailure when the graph fails.
        """
        if self._finished:
            raise ValueError("This motion stream was finished; start a new one for a new sound.")
        if len(self._waiting) >= MAX_WAITING:
            raise ValueError(f"{MAX_WAITING} pieces of sound wait already; ask for their motion before the next one.")
        self._append(samples)
        return self._deliver()

    def finish(self) -> Iterator[FloatArray]:
        """End the sound and give the motion still due: in all, one array per started 40 ms."""
        if not self._finished:
            self._finished = True
            silence = -self._samples % STEP_SAMPLES + self._look_ahead * STEP_SAMPLES
            self._append(np.zeros(silence, dtype=np.float32))
        return self._deliver()

    def _append(self, samples: FloatArray) -> None:
        piece = np.asarray(samples, dtype=np.float32).reshape(-1)
        self._samples += piece.size
        self._waiting.append(piece)

    def _deliver(self) -> Iterator[FloatArray]:
        while self._waiting:
            piece = self._waiting.popleft()
            if piece.size > STEP_SAMPLES:
                self._waiting.appendleft(piece[STEP_SAMPLES:])
            # At most one step of features: less than one was pending.
            for features in self._extractor.push(piece[:STEP_SAMPLES]):
                motion = self._step(features)
                if motion is not None:
                    yield motion

    def _step(self, features: FloatArray) -> FloatArray | None:
        motion = self._graph.step({"features": features[None]}, self._states)
        if self._to_drop:
            self._to_drop -= 1
            return None
        if not np.isfinite(motion).all():
            raise RuntimeFailure("The motion graph answered with values that are not finite.")
        return np.clip(motion, self._lowest, self._highest)


def motion_for(graph: StageGraph, samples: FloatArray) -> FloatArray:
    """The motion of a whole sound, (steps, parameters) in mm, one step per started 40 ms."""
    stream = MotionStream(graph)
    steps = [*stream.push(samples), *stream.finish()]
    if not steps:
        return np.zeros((0, len(graph.manifest.motion.parameters)), dtype=np.float32)
    return np.stack(steps)
