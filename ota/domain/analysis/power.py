"""What a fleet's own past says about how fast it can decide: how often frames play, vary and complain.

The past is a table like any other, of the last weeks, in which nobody is offered anything: day 0 is the first of them.
It is taken for a rollout without effect that began then, and looked at after a quarter of its days and at its end:

    a_i        = playbacks of frame i per day
    f, f_d     of E[R_i^2 / n_i] = f x_i + f_d n_i,  x_i = 1 + n_i / (p_i + k)                       (``estimator``)
    lambda_i   = l_i K / sum_j l_j t_j,  l_i predicted from before the past                           (``baseline``)
    q          of E[(k_i - m_i)^2] = q (1 + t / H) m_i, t a quarter of the past,  H = H_0 + 1 / (phi mu)
    h_g        = first complaints in stratum g / days until them                                       (``logrank``)

| symbol | meaning | unit |
| --- | --- | --- |
| R_i, n_i | what is left of a frame's sums, and its playbacks, up to the look | measure's, 1 |
| p_i, k | playbacks that its offset rests on; those that the fleet's mean counts for | 1 |
| f, f_d | variance of one playback within a frame; of a frame's drift | measure's squared |
| k_i, K, t_i | complaint-days of a frame, of all; days over which they are counted | days |
| q | variance over mean of one household's complaint-days: how many come in a burst | 1 |
| H_0, phi, mu | days of history behind l_i, frailty and mean rate in it; 1 / (phi mu) is the prior's worth | days |
| h_g | hazard of a frame's first complaint | 1/day |

An offset is itself uncertain, by f / (p_i + k), and so is a predicted rate: that is what x_i and 1 + t / H are for. A
frame that plays twice as much has an offset twice as good, so the look at one moment cannot tell such errors from
variance within frames; over time they are what keeps a rollout from ever deciding. Where the table knows nothing from
before, its own first part stands for that.

Sources: those of the modules named; Breslow, "Extra-Poisson variation in log-linear models".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ota.domain.analysis import baseline, logrank
from ota.domain.analysis.estimator import Sample, sample, variance_of_controls
from ota.domain.analysis.policy import Measure, Policy
from ota.domain.analysis.table import HOURS, Arm, FloatArray, IntArray, Sums, Table, sum_by, take


@dataclass(frozen=True, slots=True)
class Spread:
    """f, f_d and k of a measure."""

    within: float
    drift: float
    prior: float


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """What there is to know before a rollout. Columns have one value for each frame."""

    activity: FloatArray
    """a_i, 1/day."""
    measures: Mapping[str, "Spread"]
    """By measure; one that the past does not have is not in it."""
    complaints: FloatArray
    """lambda_i, complaint-days per day."""
    burst: float
    """q."""
    memory: float
    """H of a rollout that begins after the past, days."""
    baseline_days: float
    """Days that offsets will rest on: p_i = a_i times that."""
    risk: IntArray
    """Stratum g of the logrank test."""
    hazard: FloatArray
    """h_g of each frame's stratum."""

    def __len__(self) -> int:
        return len(self.activity)


def learn(past: Table, policy: Policy, baseline_days: float = 28.0) -> Fleet:
    """From ``past``, whose rows are all days since its start, whatever arms it names. A rollout's offsets will rest on
    ``baseline_days`` before it. Raises ValueError when it is too
    short to be parted."""
    if past.now_h < 4 * HOURS:
        raise ValueError("Four days of history at least are needed to say how frames vary: wait until there are.")
    frames = replace(past.frames, arm=np.full(len(past.frames), int(Arm.CONTROL)))
    past = replace(past, frames=frames)
    time = np.maximum(past.end_h() - past.start_h(), 0.0) / HOURS
    played = sum_by(past.days.frame, past.days.playbacks, len(frames))
    measures = {}
    for measure in policy.measures:
        if (found := _variances(past, measure, policy)) is not None:
            measures[measure.name] = found
    before, after, days = _parted(past, time)
    rates = baseline.complaint_rates(before, policy)
    seen = sum_by(after.days.frame, after.days.complained, len(frames))
    rates = rates * (float(seen.sum()) / max(float((rates * days).sum()), 1e-9))
    memory = _memory(before, policy)
    burst = _burst(after, rates, memory, policy)
    risk = logrank.risk_strata(rates, policy)
    return Fleet(
        activity=np.divide(played, time, out=np.zeros(len(frames)), where=time > 0),
        measures=measures,
        complaints=rates,
        burst=burst,
        memory=memory + float((time - days).mean() if after is not past else time.mean()),
        baseline_days=baseline_days,
        risk=risk,
        hazard=_hazards(past, risk, rates, time),
    )


def _variances(past: Table, measure: Measure, policy: Policy) -> Spread | None:
    if measure.name not in past.days.sums:
        return None
    span, count = past.now_h / HOURS, len(past.frames)
    history = past.frames.history.get(measure.name)
    looks = [span / 4, span]
    if history is None or not history.count.sum() > 0:
        early = past.days.day < int(span * 3 / 4)
        sums, frame = past.days.sums[measure.name], past.days.frame[early]
        history = Sums(sum_by(frame, sums.total[early], count), sum_by(frame, sums.count[early], count))
        past, looks = replace(past, days=take(past.days, ~early)), [span]
    past = replace(past, frames=replace(past.frames, history={measure.name: history}))
    prior = measure.prior
    if prior is None:
        prior = 1 / baseline.intraclass_correlation(history, policy) - 1
    sizes, scores = [], []
    for day in looks:
        data = sample(replace(past, days=take(past.days, past.days.day < day)), measure, policy)
        if data is None or not len(data.frame):
            return None
        n, r = _left(data, count)
        some = n > 0
        x = 1 + n[some] / (history.count[some] + prior)
        # Divided by x, the line that is fitted to controls in a rollout is the one that is wanted here.
        sizes.append(n[some] / x)
        scores.append(r[some] / x)
    if len(sizes[-1]) < policy.comparable_frames:
        return None
    within, drift = variance_of_controls(np.concatenate(sizes), np.concatenate(scores), policy.variance_rounds)
    return Spread(within, drift, prior) if within + drift > 0 else None


def _left(data: Sample, count: int) -> tuple[FloatArray, FloatArray]:
    """n_i and R_i, when everybody is a control."""
    strata = int(data.stratum.max()) + 1
    common = sum_by(data.stratum, data.deviation, strata) / np.maximum(sum_by(data.stratum, data.count, strata), 1.0)
    rest = data.deviation - data.count * common[data.stratum]
    return sum_by(data.frame, data.count, count), sum_by(data.frame, rest, count)


def _parted(past: Table, time: FloatArray) -> tuple[Table, Table, FloatArray]:
    """What complaints are predicted from, what they are compared with, and over how many days of each frame."""
    if past.frames.history_days.sum() > 0:
        return past, past, time
    split = int(past.now_h / HOURS / 2)
    early = past.days.day < split
    first = sum_by(past.days.frame[early], past.days.complained[early], len(past.frames))
    days = np.clip(time - (past.now_h / HOURS - split), 0.0, None)
    frames = replace(past.frames, history_complaints=np.minimum(first, np.ceil(days)), history_days=np.ceil(days))
    return replace(past, frames=frames), replace(past, days=take(past.days, ~early)), time - days


def _memory(before: Table, policy: Policy) -> float:
    """H, days."""
    total, time = float(before.frames.history_complaints.sum()), float(before.frames.history_days.sum())
    if not total:
        return max(1.0, time / max(1, len(before.frames)))
    phi = baseline.frailty(before.frames.history_complaints, before.frames.history_days, policy)
    return time / len(before.frames) + time / (phi * total)


def _burst(after: Table, rates: FloatArray, memory: float, policy: Policy) -> float:
    """q: at least 1, and 1 where complaints are too few to tell. Rollouts look at days, not at months, so it is asked
    of four parts of the past, each by itself."""
    days = after.days
    if not len(days) or days.complained.sum() < policy.frailty_events:
        return 1.0
    first, end = int(days.day.min()), after.now_h / HOURS
    edges = np.floor(np.linspace(first, end, 5))
    start, until = after.start_h() / HOURS, after.end_h() / HOURS
    squares = total = length = 0.0
    for low, high in pairwise(edges.tolist()):
        here = (days.day >= low) & (days.day < high)
        seen = sum_by(days.frame[here], days.complained[here], len(rates))
        time = np.clip(np.minimum(until, high) - np.maximum(start, low), 0.0, None)
        expected = rates * time
        # A part may be a bad week for everybody: that is no burst.
        expected *= float(seen.sum()) / max(float(expected.sum()), 1e-9)
        squares += float(((seen - expected) ** 2).sum())
        total += float(seen.sum())
        length += (high - low) / 4
    return max(1.0, squares / total / (1 + length / memory))


def _hazards(past: Table, risk: IntArray, rates: FloatArray, time: FloatArray) -> FloatArray:
    """h_g of each frame; where a stratum had no complaint, its mean rate."""
    count = len(past.frames)
    first = np.full(count, np.inf)
    complained = past.days.complained > 0
    np.minimum.at(first, past.days.frame[complained], past.days.day[complained] + 0.5)
    entered = past.start_h() / HOURS
    hit = np.isfinite(first)
    until = np.clip(np.where(hit, first - entered, time), 0.0, None)
    strata = int(risk.max()) + 1 if count else 1
    hits, days = sum_by(risk, hit.astype(np.float64), strata), sum_by(risk, until, strata)
    size = np.maximum(np.bincount(risk, minlength=strata), 1)
    rate = np.where(hits > 0, hits / np.maximum(days, 1.0), sum_by(risk, rates, strata) / size)
    return np.asarray(rate[risk], dtype=np.float64)
