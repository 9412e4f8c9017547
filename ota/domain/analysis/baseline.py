"""What each frame is expected to do, from its own past.

    b_i = (sum_i,pre + k mu) / (n_i,pre + k)                    a frame's own level, drawn towards its hardware's
    ICC = (MSB - MSW) / (MSB + (n_0 - 1) MSW),  k = 1/ICC - 1   completion's k, by one-way analysis of variance
    D_is = n_is clip(y_is / n_is - b_i, -c, c)                  a frame-day's deviation from its own level
    lambda_i = (k_i + 1/phi) / (t_i + 1/(phi m))                empirical-Bayes complaint-days per day
    phi = sum_i [(k_i - m t_i)^2 - m t_i] / sum_i (m t_i)^2     frailty by moments

| symbol | meaning | unit |
| --- | --- | --- |
| sum_i,pre, n_i,pre | sum over the frame's 28 days before the start, and the playbacks in it | measure's, 1 |
| mu | mean of the frame's hardware in that time | measure's |
| k | playbacks that mu counts for (``Measure.prior``) | 1 |
| MSB, MSW, n_0 | mean squares between and within frames, effective playbacks a frame | |
| y_is, n_is, c | a frame-day's sum and playbacks; ``Measure.clip`` | |
| k_i, t_i | the frame's complaint-days in its past and how many days that has | days |
| m, phi | the fleet's complaint-days per day; variance of frames' rates about it, in units of m^2 | 1/day, 1 |

A frame without a past gets mu. Offsets are fixed before the release, so they cannot be moved by it; they only take
away what made frames different before.

Sources: Ridout, Demetrio, Firth, "Estimating intraclass correlation for binary data"; Robbins, "An empirical Bayes
approach to statistics"; Deng, Xu, Kohavi, Walker, "Improving the sensitivity of online controlled experiments by
utilizing pre-experiment data".
"""

import numpy as np

from ota.domain.analysis.policy import Measure, Policy
from ota.domain.analysis.table import Arm, FloatArray, Sums, Table, sum_by


def intraclass_correlation(history: Sums, policy: Policy) -> float:
    """ICC of a yes-or-no measure within frames, from its history; the policy's where that is too short."""
    use = history.count >= 2
    n, hits = history.count[use], history.total[use]
    if len(n) < policy.icc_frames:
        return policy.icc
    total, frames = float(n.sum()), len(n)
    mean = float(hits.sum()) / total
    rate = hits / n
    between = float((n * (rate - mean) ** 2).sum()) / (frames - 1)
    within = float((n * rate * (1 - rate)).sum()) / (total - frames)
    effective = (total - float((n**2).sum()) / total) / (frames - 1)
    spread = between + (effective - 1) * within
    low, high = policy.icc_bounds
    return float(np.clip((between - within) / spread, low, high)) if spread > 0 else policy.icc


def offsets(table: Table, measure: Measure, policy: Policy) -> FloatArray:
    """b_i, shape (frames,), in the measure's unit."""
    frames = table.frames
    zero = np.zeros(len(frames))
    history = frames.history.get(measure.name) or Sums(zero, zero)
    prior = measure.prior
    if prior is None:
        prior = 1 / intraclass_correlation(history, policy) - 1
    strata = int(frames.hardware.max()) + 1 if len(frames) else 1
    totals = sum_by(frames.hardware, history.total, strata)
    counts = sum_by(frames.hardware, history.count, strata)
    overall = totals.sum() / counts.sum() if counts.sum() > 0 else _mean_of_controls(table, measure.name)
    mean = np.where(counts > 0, totals / np.maximum(counts, 1.0), overall)[frames.hardware]
    return np.asarray((history.total + prior * mean) / (history.count + prior), dtype=np.float64)


def _mean_of_controls(table: Table, name: str) -> float:
    """For a fleet without any past: what controls do now."""
    sums = table.days.sums.get(name)
    if sums is None:
        return 0.0
    controls = table.frames.arm[table.days.frame] == Arm.CONTROL
    count = float(sums.count[controls].sum())
    return float(sums.total[controls].sum()) / count if count else 0.0


def deviations(sums: Sums, offset: FloatArray, clip: float | None) -> FloatArray:
    """D_is of each row; ``offset`` is b_i of each row's frame."""
    if clip is None:
        return sums.total - sums.count * offset
    mean = sums.total / np.maximum(sums.count, 1.0)
    return sums.count * np.clip(mean - offset, -clip, clip)


def frailty(complaints: FloatArray, days: FloatArray, policy: Policy) -> float:
    """phi: variance of frames' complaint rates about the fleet's, in units of its square."""
    if complaints.sum() < policy.frailty_events:
        return policy.frailty
    expected = days * (complaints.sum() / days.sum())
    found = float(((complaints - expected) ** 2 - expected).sum() / (expected**2).sum())
    low, high = policy.frailty_bounds
    return float(np.clip(found, low, high))


def complaint_rates(table: Table, policy: Policy) -> FloatArray:
    """lambda_i, complaint-days per day, shape (frames,). A fleet that never complained gets 1 for everybody: only the
    frames' rates relative to each other matter."""
    frames = table.frames
    total, time = float(frames.history_complaints.sum()), float(frames.history_days.sum())
    if not total:
        return np.ones(len(frames))
    phi, mean = frailty(frames.history_complaints, frames.history_days, policy), total / time
    rates = (frames.history_complaints + 1 / phi) / (frames.history_days + 1 / (phi * mean))
    return np.asarray(rates, dtype=np.float64)
