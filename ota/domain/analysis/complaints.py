"""Complaints, all of them: how many times as often canaries complain as controls, and whether that is harm or harmless.

The logrank test looks at each frame's first complaint only, and cannot show harmlessness, for it has no size of effect.
Here complaint-days (one per frame and day at most) are compared with what each frame's past predicts. Given that
somebody complained on day s, who it was says which ratio R between the arms is the likelier:

    x(s)   = E_T(s) / E_C(s)
    L(R)   = prod_s R^{K_T(s)} / (1 + R x(s))^{K_T(s) + K_C(s)}      but for what does not depend on R
    r(s)   = K_C(s) / E_C(s),  m_i = lambda_i  integral of r over i's time    had canary i been a control
    E_T    = sum_T m_i,  rho = K_T / E_T
    c      = max(0, sum_C [(k_j - m_j)^2 - m_j] / sum_C m_j^2)
    phi    = 1 + c sum_T m_i^2 / E_T
    harm        E = mean over theta of [L(theta) / L(1)]^(1 / phi)
    harmless    E = [L(1) / L(R)]^(1 / phi),  R the margin

and for intervals

    w(s)   = x(s),  m'_j = lambda_j integral of w r over j's time (sum_C m'_j = E_T)
    V_R    = (R E_T + c R^2 sum_T m_i^2) / E_T^2  +  R^2 (sum_s w(s)^2 K_C(s) + c sum_C m'_j^2) / E_T^2

Where w is the same on all days, V_R is (R E_T + c R^2 sum_T m^2) / E_T^2 + R^2 (sum_C m + c sum_C m^2) / (sum_C m)^2.

| symbol | meaning | unit |
| --- | --- | --- |
| T, C, s | canaries, controls, day | |
| lambda_i | empirical-Bayes rate of frame i (``baseline``) | complaint-days a day |
| K_T(s), K_C(s), k_j | complaint-days seen on day s; of frame j | days |
| E_T(s), E_C(s) | sum of lambda over the time frames of the arm counted on day s | days |
| rho | complaint-days of canaries over what controls would have had | ratio |
| c | overdispersion between frames, from controls: bursts, and households that differ from their prediction | 1 |
| phi | variance of K_T over its mean, had canaries been controls: how many complaint-days are worth one | 1 |
| theta, R | hazard ratios of the policy; margin, above 1 | ratio |
| V_R | variance of rho if it were R | ratio squared |

Days that shock everybody cancel: only the split between the arms counts. That households' complaints come together
makes a product of likelihood ratios too sure of itself; its root 1/phi takes back what controls show of that
(quasi-likelihood). "Harmless" is measured at 1 against R, for a release that does nothing to complaints is what is
hoped for; the counts are few at that point, and a test that takes them for normal needs twice the time. Of simulated
releases exactly on a margin of 2 or 4 at most 3 % are ever called harmless, bursts of four complaints or two, where 5 %
are allowed. Harm counts after minimum exposure only.

A frame's time runs whether it plays or not, so a release cannot look quiet by playing less. A day on which no control
was there is left out of L.

Sources: Robbins, "An empirical Bayes approach to statistics"; Breslow, "Extra-Poisson variation in log-linear models"
(overdispersion by moments); McCullagh, "Quasi-likelihood functions"; Przyborowski, Wilenski, "Homogeneity of results in
testing samples from Poisson series" (two Poisson rates by their split); Wald, "Sequential tests of statistical
hypotheses".
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ota.domain.analysis.table import HOURS, Arm, FloatArray, Table


def _none() -> FloatArray:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Complaints:
    """rho and what its variance is made of."""

    ratio: float
    seen: float
    expected: float
    overdispersion: float
    expected_squared: float
    """sum_T m_i^2."""
    control_variance: float
    """sum_s w(s)^2 K_C(s) + c sum_C m'_j^2."""
    control_seen: float
    counted: float = 0.0
    """sum_s K_T(s) over the days in ``events``."""
    events: FloatArray = field(default_factory=_none)
    """K_T(s) + K_C(s), by day on which controls were there."""
    odds: FloatArray = field(default_factory=_none)
    """x(s), on the same days."""

    def variance(self, ratio: float) -> float:
        """V_R."""
        own = ratio * self.expected + self.overdispersion * ratio**2 * self.expected_squared
        return (own + ratio**2 * self.control_variance) / self.expected**2

    @property
    def dispersion(self) -> float:
        """phi."""
        return 1 + self.overdispersion * self.expected_squared / self.expected

    def log_likelihood_ratio(self, ratio: float, against: float) -> float:
        """log of L(ratio) / L(against)."""
        days = self.events * np.log((1 + against * self.odds) / (1 + ratio * self.odds))
        return float(days.sum()) + self.counted * math.log(ratio / against)

    def log_e_harm(self, ratios: tuple[float, ...]) -> float:
        """Log of the evidence that canaries complain more often, some of ``ratios`` times."""
        logs = [self.log_likelihood_ratio(ratio, 1.0) / self.dispersion for ratio in ratios]
        return float(np.logaddexp.reduce(logs)) - math.log(len(logs))

    def log_e_noninferior(self, margin: float) -> float:
        """Log of the evidence that the ratio is below ``margin``."""
        if margin <= 1:
            raise ValueError("A margin for complaints is a ratio above 1, such as 2 for twice as many.")
        return self.log_likelihood_ratio(1.0, margin) / self.dispersion


def compare(table: Table, rates: FloatArray) -> Complaints | None:
    """``rates`` is lambda, shape (frames,). None while controls have no complaint to compare with."""
    frames, days = table.frames, table.days
    start = table.start_h()
    end = np.maximum(table.days_end_h(), start)
    edges = (np.arange(int(table.now_h // HOURS) + 2) * HOURS).astype(np.float64)
    canary, control = frames.arm == Arm.CANARY, frames.arm == Arm.CONTROL
    counted = (days.complained > 0) & (days.day >= np.floor(np.minimum(start, edges[-1]) / HOURS)[days.frame])
    frame, day = days.frame[counted], days.day[counted]
    seen = np.bincount(day[canary[frame]], minlength=len(edges) - 1).astype(np.float64)
    base = np.bincount(day[control[frame]], minlength=len(edges) - 1).astype(np.float64)
    time_t = _time(rates[canary], start[canary], end[canary], edges)
    time_c = _time(rates[control], start[control], end[control], edges)
    some = time_c > 0
    hazard = np.where(some, base / np.where(some, time_c, 1.0), 0.0)
    relative = np.where(some, time_t / np.where(some, time_c, 1.0), 0.0)
    expected = _integral(hazard, rates[canary], start[canary], end[canary], edges)
    total = float(expected.sum())
    if not total > 0:
        return None
    own = _integral(hazard, rates[control], start[control], end[control], edges)
    pull = _integral(hazard * relative, rates[control], start[control], end[control], edges)
    found = np.bincount(frame, minlength=len(frames)).astype(np.float64)[control]
    excess = max(0.0, float(((found - own) ** 2 - own).sum() / (own**2).sum()))
    return Complaints(
        ratio=float(seen.sum()) / total,
        seen=float(seen.sum()),
        expected=total,
        overdispersion=excess,
        expected_squared=float((expected**2).sum()),
        control_variance=float((relative**2 * base).sum()) + excess * float((pull**2).sum()),
        control_seen=float(base.sum()),
        counted=float(seen[some].sum()),
        events=(seen + base)[some],
        odds=relative[some],
    )


def _time(rates: FloatArray, start: FloatArray, end: FloatArray, edges: FloatArray) -> FloatArray:
    """Sum of rate x days counted, for each day."""
    until = [float((rates * np.clip(edge - start, 0.0, end - start)).sum()) for edge in edges]
    return np.diff(until) / HOURS


def _integral(
    hazard: FloatArray, rates: FloatArray, start: FloatArray, end: FloatArray, edges: FloatArray
) -> FloatArray:
    """rate x integral of a daily ``hazard`` over each frame's time, in days."""
    summed = np.concatenate(([0.0], np.cumsum(hazard)))
    return rates * (np.interp(end, edges, summed) - np.interp(start, edges, summed))
