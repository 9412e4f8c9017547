"""Complaint non-inferiority: canaries complain less than R times as often as controls.

The logrank test finds harm; it cannot show harmlessness, for it has no size of effect. Here complaint-days (one per
frame and day at most) are compared with what each frame's past predicts, standardised by controls day by day:

    r(s)  = K_C(s) / E_C(s)                       how complaint-prone day s was
    m_i   = lambda_i  integral of r over i's time    expected complaint-days of canary i, had it been a control
    w(s)  = E_T(s) / E_C(s),  m'_j = lambda_j integral of w r over j's time
    E_T   = sum_T m_i = sum_C m'_j,  rho = K_T / E_T
    c     = max(0, sum_C [(k_j - m_j)^2 - m_j] / sum_C m_j^2)
    V_R   = (R E_T + c R^2 sum_T m_i^2) / E_T^2  +  R^2 (sum_s w(s)^2 K_C(s) + c sum_C m'_j^2) / E_T^2
    test  = E(R - rho, V_R, R - 1), the half-normal mixture, once E_T >= 3

Where w is the same on all days, V_R is (R E_T + c R^2 sum_T m^2) / E_T^2 + R^2 (sum_C m + c sum_C m^2) / (sum_C m)^2.

| symbol | meaning | unit |
| --- | --- | --- |
| T, C, s | canaries, controls, day | |
| lambda_i | empirical-Bayes rate of frame i (``baseline``) | complaint-days a day |
| K_T(s), K_C(s), k_j | complaint-days seen on day s; of frame j | days |
| E_T(s), E_C(s) | sum of lambda over the time frames of the arm counted on day s | days |
| rho | complaint-days of canaries over what controls would have had | ratio |
| c | overdispersion between frames, from controls | 1 |
| R | margin, above 1 | ratio |
| V_R | variance of rho if it were R | ratio squared |

A frame's time runs whether it plays or not, so a release cannot look quiet by playing less. A day on which no control
complained adds nothing to E_T, and complaints of canaries on it still count against the release.

Sources: Robbins, "An empirical Bayes approach to statistics"; Breslow, "Extra-Poisson variation in log-linear models"
(overdispersion by moments); the mixture's, see ``eprocess``.
"""

from dataclasses import dataclass

import numpy as np

from ota.domain.analysis import eprocess
from ota.domain.analysis.policy import Policy
from ota.domain.analysis.table import HOURS, Arm, FloatArray, Table


@dataclass(frozen=True, slots=True)
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

    def variance(self, ratio: float) -> float:
        """V_R."""
        own = ratio * self.expected + self.overdispersion * ratio**2 * self.expected_squared
        return (own + ratio**2 * self.control_variance) / self.expected**2

    def log_e_noninferior(self, margin: float, policy: Policy) -> float | None:
        """Log of the evidence that the ratio is below ``margin``; None while too little is expected to say anything."""
        if margin <= 1:
            raise ValueError("A margin for complaints is a ratio above 1, such as 2 for twice as many.")
        if self.expected < policy.complaint_expected:
            return None
        return float(eprocess.log_e_noninferior(self.ratio - 1, self.variance(margin), margin - 1))


def compare(table: Table, rates: FloatArray) -> Complaints | None:
    """``rates`` is lambda, shape (frames,). None while controls have no complaint to compare with."""
    frames, days = table.frames, table.days
    start, end = table.start_h(), np.maximum(table.end_h(), table.start_h())
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
