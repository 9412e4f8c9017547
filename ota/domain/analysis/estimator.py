"""The stratified estimator: how far canaries moved from their own past, beyond what controls did on the same days.

    r_C(s) = sum_C D_is / sum_C n_is              what a day did to everybody on this hardware
    R_i    = sum_s (D_is - n_is r_C(s))           what is left of frame i
    E[R_i^2 / n_i] = f_w + f_b n_i                fitted on controls only, by reweighted least squares, both >= 0
    g_i    = 1 / (f_w + f_b n_i)                  weight of one playback of frame i
    W      = sum_T g_i n_i,  theta = sum_T g_i R_i / W
    omega_s = sum_T g_i n_is / sum_C n_js
    V_C1   = sum_C [ sum_s omega_s (D_js - n_js r_C(s)) / (1 - n_js / sum_C n_is) ]^2 / W^2
    V_C0   = sum_C [ f_w sum_s omega_s^2 n_js + f_b (sum_s omega_s n_js)^2 ] / W^2
    V_C    = max(V_C0, V_C1)
    V_T0   = sum_T g_i^2 (f_w n_i + f_b n_i^2) / W^2 = 1 / W
    V_T1   = sum_T g_i^2 (R_i - n_i theta)^2 / W^2

| symbol | meaning | unit |
| --- | --- | --- |
| T, C | canaries, controls, by assignment | |
| s | stratum: day x hardware | |
| D_is, n_is | deviation from the frame's own past (``baseline``), playbacks with a value | measure's, 1 |
| n_i | sum_s n_is | 1 |
| f_w, f_b | variance of one playback within a frame; of the frame's own drift | measure's squared |
| theta | effect of the release on one playback | measure's |
| V_C, V_C1, V_C0 | variance of theta from controls; as each of them was seen to differ; as f_w, f_b say | squared |
| V_T0, V_T1 | variance of theta from canaries as controls vary; as they vary themselves | squared |

The frame is the unit, never the playback. Canary days on which fewer than two controls of the hardware played are left
out: they have nothing to be compared with, or nothing that tells how it varies.

A control pulls the day's mean towards itself, the more the fewer controls there are: V_C1 asks how far it lies from
the others' mean. Where they are few it is still an uncertain number, so V_C0 stands beside it, in which all controls'
playbacks have a say. Among a thousand controls neither changes anything; with 50, as in a small fleet's holdback, one
in twenty harmless releases would be called harmful within a week without them (simulated: 5 % against 1 %).

V_T0 is learned from controls alone, so a release cannot hide harm by making canaries noisy; a release must be shown
harmless against the larger of V_T0 and V_T1.

Sources: Miratrix, Sekhon, Yu, "Adjusting treatment effect estimates by post-stratification in randomized experiments";
Liang, Zeger, "Longitudinal data analysis using generalized linear models" (frames as clusters). The weights by
control-learned variance are this project's; simulation shows what they are for (without them, 12 % of good releases
were rolled back).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ota.domain.analysis import baseline
from ota.domain.analysis.policy import Measure, Policy
from ota.domain.analysis.table import HOURS, Arm, FloatArray, IntArray, Sums, Table

_BLOCK = 1 << 17
"""Rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One measure's rows, canaries and controls only. ``frame`` is an index into ``canary``."""

    canary: NDArray[np.bool_]
    frame: IntArray
    stratum: IntArray
    count: FloatArray
    deviation: FloatArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """theta and its variances; how many frames and playbacks stand behind it, by arm."""

    effect: float
    variance_control: float
    variance_canary: float
    variance_canary_seen: float
    canary_frames: int
    canary_playbacks: float
    control_frames: int
    control_playbacks: float

    @property
    def variance(self) -> float:
        """For harm: as controls vary."""
        return self.variance_control + self.variance_canary

    @property
    def variance_cautious(self) -> float:
        """For non-inferiority: as the more variable of both arms varies."""
        return self.variance_control + max(self.variance_canary, self.variance_canary_seen)


def sample(table: Table, measure: Measure, policy: Policy) -> Sample | None:
    """The rows of ``measure`` that count; None when the table does not have it."""
    sums = table.days.sums.get(measure.name)
    if sums is None:
        return None
    frames, days = table.frames, table.days
    first_day = np.floor(np.minimum(table.start_h(), table.now_h + HOURS) / HOURS)
    first_day[frames.arm == Arm.NEITHER] = np.inf
    counts = (sums.count > 0) & (days.day >= first_day[days.frame])
    # All of millions of rows need no copy.
    rows = slice(None) if counts.all() else np.flatnonzero(counts)
    frame = days.frame[rows]
    offset = baseline.offsets(table, measure, policy)[frame]
    part = Sums(sums.total[rows], sums.count[rows])
    strata = int(frames.hardware.max()) + 1 if len(frames) else 1
    return Sample(
        canary=frames.arm == Arm.CANARY,
        frame=frame,
        stratum=days.day[rows] * strata + frames.hardware[frame],
        count=part.count,
        deviation=baseline.deviations(part, offset, measure.clip),
    )


def estimate(data: Sample, policy: Policy) -> Estimate | None:
    """theta and its variances; None while there are no canaries' playbacks, or too few controls to learn from."""
    frames = len(data.canary)
    common = _Common.of(data)
    n, r = np.zeros(frames), np.zeros(frames)
    for part in common.parts():
        _add(n, part.frame, part.count)
        _add(r, part.frame, part.rest)
    canaries, controls = data.canary & (n > 0), ~data.canary & (n > 0)
    if not canaries.any() or int(controls.sum()) < policy.comparable_frames:
        return None
    within, between = variance_of_controls(n[controls], r[controls], policy.variance_rounds)
    if not within + between > 0:
        return None  # controls that do not vary at all tell nothing about chance
    weight = np.zeros(frames)
    weight[canaries] = 1.0 / (within + between * n[canaries])
    total = float((weight * n).sum())
    effect = float((weight * r).sum()) / total
    omega = np.zeros(len(common.n))
    for part in common.parts():
        _add(omega, part.stratum, weight[part.frame] * part.count)
    omega /= np.maximum(common.n, 1.0)
    pull, drift, playbacks = np.zeros(frames), np.zeros(frames), np.zeros(frames)
    for part in common.parts():
        scaled = omega[part.stratum]
        _add(pull, part.frame, scaled * part.rest / part.others())
        played = scaled * part.count
        _add(drift, part.frame, played)
        _add(playbacks, part.frame, scaled * played)
    seen = float((pull[~data.canary] ** 2).sum())
    modelled = within * float(playbacks[~data.canary].sum()) + between * float((drift[~data.canary] ** 2).sum())
    return Estimate(
        effect=effect,
        variance_control=max(seen, modelled) / total**2,
        variance_canary=1.0 / total,
        variance_canary_seen=float((weight**2 * (r - n * effect) ** 2).sum()) / total**2,
        canary_frames=int(canaries.sum()),
        canary_playbacks=float(n[canaries].sum()),
        control_frames=int(controls.sum()),
        control_playbacks=float(n[controls].sum()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some rows: ``rest`` is D_is - n_is r_C(s). Rows that cannot be compared count 0."""

    frame: IntArray
    stratum: IntArray
    count: FloatArray
    rest: FloatArray
    common: "_Common"

    def others(self) -> FloatArray:
        """1 - n_js / sum_C n_is of controls, 1 of canaries; above 0, for there are two controls at least."""
        share = self.count / np.maximum(self.common.n, 1.0)[self.stratum]
        return np.asarray(1.0 - self.common.control[self.frame] * share)


@dataclass(frozen=True, slots=True, eq=False)
class _Common:
    """What a stratum did to everybody: controls' playbacks and r_C(s). Rows are gone through in blocks that a
    processor's cache holds: there are millions of them, and several things to be known of each."""

    data: Sample
    control: FloatArray
    """1 for frames that are controls."""
    n: FloatArray
    rate: FloatArray
    comparable: FloatArray
    """1 for strata with two controls or more."""

    @classmethod
    def of(cls, data: Sample) -> "_Common":
        strata = int(data.stratum.max()) + 1 if len(data.stratum) else 1
        control = (~data.canary).astype(np.float64)
        n, deviation, played = np.zeros(strata), np.zeros(strata), np.zeros(strata)
        for rows in _blocks(len(data.frame)):
            stratum, mine = data.stratum[rows], control[data.frame[rows]]
            _add(n, stratum, mine * data.count[rows])
            _add(deviation, stratum, mine * data.deviation[rows])
            _add(played, stratum, mine)
        return cls(data, control, n, deviation / np.maximum(n, 1.0), (played > 1).astype(np.float64))

    def parts(self) -> Iterator[_Part]:
        data, all_comparable = self.data, bool(self.comparable.all())
        for rows in _blocks(len(data.frame)):
            stratum, count = data.stratum[rows], data.count[rows]
            rest = data.deviation[rows] - count * self.rate[stratum]
            if not all_comparable:
                use = self.comparable[stratum]
                count, rest = count * use, rest * use
            yield _Part(data.frame[rows], stratum, count, rest, self)


def _blocks(rows: int) -> Iterator[slice]:
    for begin in range(0, rows, _BLOCK):
        yield slice(begin, begin + _BLOCK)


def _add(into: FloatArray, index: IntArray, values: FloatArray) -> None:
    """Sums of ``values`` by ``index``; quick where the indices lie close together, as those of ordered rows do."""
    low = int(index.min())
    sums = np.bincount(index - low, weights=values)
    into[low : low + len(sums)] += sums


def variance_of_controls(n: FloatArray, r: FloatArray, rounds: int) -> tuple[float, float]:
    """(f_w, f_b) of E[R^2 / n] = f_w + f_b n, neither below 0, both 0 only if all of ``r`` is. ``n`` > 0.

    A square varies as the square of its mean, so each round weighs by 1 / (fitted mean)^2.
    """
    y = r**2 / n
    weight = np.ones(len(n))
    within, between = float(y.mean()), 0.0
    for _ in range(rounds):
        within, between = _line(n, y, weight)
        fitted = within + between * n
        if not fitted.min() > 0:
            break
        weight = 1.0 / fitted**2
        weight /= weight.max()
    return within, between


def _line(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Least squares of y on (1, x), x > 0 and y >= 0, with both coefficients at least 0."""
    s0, s1, s2 = float(weight.sum()), float((weight * x).sum()), float((weight * x**2).sum())
    t0, t1 = float((weight * y).sum()), float((weight * x * y).sum())
    spread = s0 * s2 - s1**2
    if spread <= 1e-12 * s0 * s2:
        return t0 / s0, 0.0  # all frames played equally often: one number is all there is to learn
    slope = (s0 * t1 - s1 * t0) / spread
    level = (t0 - slope * s1) / s0
    if slope < 0:
        return t0 / s0, 0.0
    if level < 0:
        return 0.0, t1 / s2
    return level, slope
