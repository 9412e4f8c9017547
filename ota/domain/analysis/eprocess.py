"""Normal mixture e-process, one-sided, and the confidence sequence that goes with its two-sided sister.

    E(h, V, mu, tau) = (1 + tau^2/V)^(-1/2) exp(x^2/2 - mu^2/(2 tau^2)) Phi(x) / Phi(mu/tau)
                  x  = (tau h/V + mu/tau) / sqrt(1 + tau^2/V)

It is the integral of exp(d h/V - d^2/(2V)) over d > 0 with the density of a normal N(mu, tau^2) cut off at 0: the
likelihood ratio of a harm d against none, averaged over harms of the size mu, give or take tau. mu = 0 is the
half-normal mixture. Under "no harm" its mean is at most 1 at every stopping time, so that it ever reaches 1/alpha has a
chance of at most alpha, whatever mu and tau are; they only decide for which harms it is soonest. Where harms of
0.04 are looked for, mu = 0.04 and tau = 0.02 need a z of 3.2 where the half-normal one needs 3.4.

The interval holds at all times together with chance 1 - alpha:

    |estimate - truth| <= sqrt( V (V + tau^2) / tau^2  (2 log(1/alpha) + log(1 + tau^2/V)) )

| symbol | meaning | unit |
| --- | --- | --- |
| h | estimated harm; positive is worse | the measure's |
| V | variance of the estimate | the measure's, squared |
| mu, tau | size of harm that is looked for, and how far from it harms may lie | the measure's |
| x | h standardised, drawn towards mu | - |

Sources: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences"; Robbins,
"Statistical methods related to the law of the iterated logarithm"; Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (V is estimated).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx, log_ndtr  # type: ignore[import-untyped]

from ota.domain.analysis.table import FloatArray

_ROOT_HALF = float(np.sqrt(0.5))


def log_e(harm: ArrayLike, variance: ArrayLike, tau: float, center: float = 0.0) -> FloatArray:
    """Natural log of E; arguments broadcast. Finite however large harm^2 / variance is. An infinite variance (nothing
    known) gives 0. Raises ValueError on variances or a tau that are not above 0, or a center below 0."""
    v = np.asarray(variance, dtype=np.float64)
    h = np.asarray(harm, dtype=np.float64)
    if not (tau > 0 and bool(np.all(v > 0))):
        raise ValueError("An e-process needs a variance and a tau above 0.")
    if not center >= 0:
        raise ValueError("The harm that an e-process looks for is 0 or more: give its size without a sign.")
    known = np.isfinite(v)
    v = np.where(known, v, 1.0)
    root = np.sqrt(v)
    # The root is taken apart so that neither tiny nor huge variances leave the range of a float.
    x = (tau * (h / root) + center / tau * root) / np.hypot(root, tau)
    # Below 0, exp(x^2/2) and Phi(x) cancel: their product is erfcx(-x/sqrt 2) / 2. Above 0 that would overflow.
    low = np.log(erfcx(-np.minimum(x, 0.0) * _ROOT_HALF)) - np.log(2.0)
    high = np.maximum(x, 0.0) ** 2 / 2 + log_ndtr(np.maximum(x, 0.0))
    prior = (center / tau) ** 2 / 2 + log_ndtr(center / tau)
    shrink = np.log(np.hypot(1.0, tau / root))
    return np.asarray(np.where(known, np.where(x > 0, high, low) - shrink - prior, 0.0), dtype=np.float64)


def log_e_noninferior(harm: ArrayLike, variance: ArrayLike, margin: float, spread: float) -> FloatArray:
    """Natural log of the evidence that harm is below ``margin``: how far below is looked for around ``margin``, where a
    release that does nothing lies, give or take ``spread`` times as much."""
    return log_e(margin - np.asarray(harm, dtype=np.float64), variance, margin * spread, margin)


def half_width(variance: ArrayLike, tau: float, alpha: float) -> FloatArray:
    """Half the width of the two-sided confidence sequence, in the estimate's unit; infinite where nothing is known."""
    v = np.asarray(variance, dtype=np.float64)
    if not (tau > 0 and 0 < alpha < 1 and bool(np.all(v > 0))):
        raise ValueError("A confidence sequence needs a variance and a tau above 0, and an alpha between 0 and 1.")
    root = np.sqrt(v)
    need = 2 * np.log(1 / alpha) + 2 * np.log(np.hypot(1.0, tau / root))
    return np.asarray(root * np.hypot(root, tau) / tau * np.sqrt(need), dtype=np.float64)
