"""What a photo and a voice are like, each in one word of ``protocol.messages.CONTEXTS``.

Only these words leave the frame: they let the backend see that, say, turned faces complain more often.

    yaw      = median over PAIRS of atan2(z_right - z_left, |xy_right - xy_left|)
    loudness = 10 log10 of the mean square of the steps that are at most RANGE_DB below the loudest one
"""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Samples = npt.NDArray[np.float32]

TURNED_DEG: Final = 15.0
"""A head of which FaceMesh sees more is "turned". It sees about two thirds of a turn (the portrait's head, turned by 20
and by 35 degrees and drawn anew, is seen at 14 and at 21 to 26), so that is a head turned by some 20 degrees."""
QUIET_DBFS: Final = -36.0
LOUD_DBFS: Final = -16.0
"""Ten dB below and above -26 dBFS, the active speech level at which ITU-T P.56 material is levelled."""
RANGE_DB: Final = 30.0
"""What is quieter than the loudest step by more is a pause: it says how long somebody was silent, not how loud."""

PAIRS: Final = ((33, 263), (234, 454), (61, 291))
"""FaceMesh points that face each other: outer corners of the eyes, cheeks before the ears, corners of the mouth."""
_RUNTIMES: Final = {"rknn": "npu", "onnx": "cpu"}
_STEP: Final = 640
_SILENCE: Final = 1e-10


def yaw_deg(landmarks: Points) -> float:
    """How far FaceMesh sees a head turned aside, 0 for one that looks straight ahead. `landmarks` (468, 3) have their
    depth in the unit of their place. Positive towards the left of the photo."""
    turns = []
    for left, right in PAIRS:
        across = landmarks[right].astype(np.float64) - landmarks[left].astype(np.float64)
        turns.append(math.degrees(math.atan2(across[2], math.hypot(across[0], across[1]))))
    return float(np.median(turns))


def pose_of(landmarks: Points) -> str:
    """ "frontal" or "turned"."""
    return "turned" if abs(yaw_deg(landmarks)) > TURNED_DEG else "frontal"


def runtime_context(running: Iterable[str]) -> dict[str, str]:
    """Where the film was computed, from the runtimes of its stages; nothing where there are none."""
    words = {_RUNTIMES[name] for name in running if name in _RUNTIMES}
    return {"runtime": words.pop() if len(words) == 1 else "mixed"} if words else {}


def level_dbfs(samples: Samples) -> float:
    """The level of a voice (n,) in -1..1 while it speaks; a full-scale square wave has 0."""
    whole = samples[: len(samples) - len(samples) % _STEP] if len(samples) > _STEP else samples
    steps = whole.reshape(-1, min(_STEP, len(whole))) if len(whole) else np.zeros((1, 1), np.float32)
    power = np.square(steps, dtype=np.float64).mean(axis=1)
    speaking = power[power >= power.max() * 10 ** (-RANGE_DB / 10)]
    return 10 * math.log10(float(speaking.mean()) + _SILENCE)


def loudness_of(samples: Samples) -> str:
    """ "quiet", "normal" or "loud"."""
    level = level_dbfs(samples)
    if level < QUIET_DBFS:
        return "quiet"
    return "loud" if level > LOUD_DBFS else "normal"
