"""Sample-ratio check: does the share of canaries agree with the share that was meant?

    E = B(a0 + a, b0 + b) / B(a0, b0) / (p^a (1 - p)^b),    a0 = K p, b0 = K (1 - p)

| symbol | meaning | unit |
| --- | --- | --- |
| a, b | frames of a stratum found in the canary arm and outside it | frames |
| p | share of the stratum that was meant to be canary | 1 |
| K | how many frames the meant share is worth in the prior (``Policy.ratio_strength``) | frames |
| B | Euler's beta function | |

It is the likelihood of the frames found under any share near p, against p itself: a test martingale while frames come
in, so it may be looked at whenever one likes. Count frames by assignment, not those that report: silence is "dark", not
a wrong ratio. What it catches: a hash that is not uniform, a filter applied to one arm alone, swapped arms.

Sources: Lindon, Malek, "Anytime-valid inference for multinomial count data"; Fabijan et al., "Diagnosing sample ratio
mismatch in online controlled experiments".
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, xlog1py, xlogy  # type: ignore[import-untyped]

from ota.domain.analysis.policy import Policy
from ota.domain.analysis.table import Arm, FloatArray, Frames


def log_e_ratio(canaries: ArrayLike, others: ArrayLike, share: float, strength: float) -> FloatArray:
    """Natural log of E, for each stratum; arguments broadcast. Where everybody or nobody was meant, one frame on the
    wrong side is infinite evidence and none is 0."""
    a, b = np.asarray(canaries, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if not 0 <= share <= 1 or not strength > 0:
        raise ValueError("A share lies between 0 and 1, and its strength is above 0.")
    if share in (0.0, 1.0):
        return np.where((b if share else a) > 0, np.inf, 0.0)
    a0, b0 = strength * share, strength * (1 - share)
    found = betaln(a0 + a, b0 + b) - betaln(a0, b0) - xlogy(a, share) - xlog1py(b, -share)
    return np.asarray(found, dtype=np.float64)


def worst_stratum(frames: Frames, share: float, policy: Policy) -> float:
    """Largest log E over hardware strata. ``share`` is the open stage's: what part of all frames should be canaries."""
    if not len(frames):
        return 0.0
    canaries = np.bincount(frames.hardware[frames.arm == Arm.CANARY], minlength=int(frames.hardware.max()) + 1)
    others = np.bincount(frames.hardware[frames.arm != Arm.CANARY], minlength=len(canaries))
    return float(log_e_ratio(canaries, others, share, policy.ratio_strength).max())
