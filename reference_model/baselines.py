"""What a model without a network reaches: a ridge regression from features to motion."""

import numpy as np
import numpy.typing as npt

from device_agent.pipeline.features import FloatArray
from reference_model.corpus import Corpus
from reference_model.shape import LOOK_AHEAD_STEPS

_PENALTY = 10.0


def _rows(corpus: Corpus) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """Features of a step and of the newest step it may hear, with a constant."""
    inputs: list[npt.NDArray[np.float64]] = []
    for clip in corpus.clips:
        ahead = np.concatenate([clip.features[LOOK_AHEAD_STEPS:], np.repeat(clip.features[-1:], LOOK_AHEAD_STEPS, 0)])
        constant = np.ones((len(ahead), 1), np.float32)
        inputs.append(np.concatenate([clip.features, ahead, constant], axis=1, dtype=np.float64))
    return np.concatenate(inputs), np.concatenate([clip.targets for clip in corpus.clips])


def ridge_error(training: Corpus, held_out: Corpus) -> float:
    """Mean lip error in mm on the held-out clips of a ridge regression fitted to the training clips."""
    inputs, targets = _rows(training)
    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-3)
    mean[-1], scale[-1] = 0.0, 1.0
    inputs = (inputs - mean) / scale
    weights = np.linalg.solve(inputs.T @ inputs + _PENALTY * np.eye(inputs.shape[1]), inputs.T @ targets)
    unseen, wanted = _rows(held_out)
    return float(np.abs((unseen - mean) / scale @ weights - wanted).mean())
