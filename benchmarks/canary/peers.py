"""How other systems judge the same canaries, side by side with ours.

5 % of frames are offered the release at once and stay canaries; everybody from 25 % on is a control. A look every 3
hours for 14 days; a release is called harmful as soon as completion, power or complaints are. Tests are one-sided and
share alpha among the three metrics (Bonferroni), which is more than the systems themselves do.

    threshold        canaries' average is worse than the controls' by a fixed limit, after 100 playbacks
    mann_whitney     interval of the shift between the two series of 3-hourly averages, against a quarter of the shift
    z_playbacks      two-sample z test, every playback taken for independent
    gbstats_playbacks  gbstats' sequential interval on the same sums
    gbstats_frames   the same with frames as clusters (delta method)

threshold is what hawkBit's error thresholds and alarms on metrics in AWS CodeDeploy and IoT Jobs do; mann_whitney is
Kayenta's classifier; gbstats' sequential interval is GrowthBook's, with its default tuning.

| symbol | meaning |
| --- | --- |
| alpha | chance of a false alarm that a method is told to keep, over all metrics |
| limits | of threshold: completion, power (W), complaints (ratio), those of the last tested stage |
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.stats import norm  # type: ignore[import-untyped]

from benchmarks.canary.golden import gbstats_rho
from benchmarks.canary.staged import LOOK_H, Ledger
from benchmarks.canary.world import Effect, Model, World
from ota.domain.analysis import eprocess
from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import COMPLAINT, COMPLETION, POWER, STAGES, Policy, Stage
from ota.domain.analysis.table import Arm, FloatArray
from ota.domain.analysis.verdict import judge

METRICS = (COMPLETION, POWER, COMPLAINT)
WORSE = {COMPLETION: -1.0, POWER: 1.0, COMPLAINT: 1.0}
SHARE = 0.05
DAYS = 14
ALPHAS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Of the limits of ``threshold``."""
LEAST_PLAYBACKS = 100
TUNING = 5000.0
"""gbstats' default: observations at which its interval is narrowest."""
TOLERANCE = 0.25
"""Kayenta's default: part of the shift that its interval must clear."""
OURS = "framefleet"


@dataclass(frozen=True, slots=True)
class Side:
    """One arm so far, one number per frame: playbacks, and sums of each metric; sums of squares over playbacks."""

    n: FloatArray
    sums: dict[str, FloatArray]
    squares: dict[str, float]

    def mean(self, name: str) -> float:
        return float(self.sums[name].sum() / self.n.sum())

    def variance_playbacks(self, name: str) -> float:
        """Of the mean, if playbacks were independent."""
        n = float(self.n.sum())
        return max(self.squares[name] / n - self.mean(name) ** 2, 1e-12) / n

    def variance_frames(self, name: str) -> float:
        """Of the mean as a ratio of sums over frames."""
        some = self.n > 0
        n, left = self.n[some], self.sums[name][some] - self.mean(name) * self.n[some]
        count = len(n)
        return max(float(left @ left) / float(n.sum()) ** 2 * count / max(count - 1, 1), 1e-12)


@dataclass(slots=True)
class Series:
    """3-hourly averages of each metric, by arm."""

    canary: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in METRICS})
    control: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in METRICS})


@dataclass(frozen=True, slots=True)
class Seen:
    """What a method is given at a look."""

    canary: Side
    control: Side
    series: Series

    def harm(self, name: str) -> float:
        return WORSE[name] * (self.canary.mean(name) - self.control.mean(name))


Method = Callable[[Seen, float], bool]


def threshold(seen: Seen, factor: float) -> bool:
    """``factor`` times the limits."""
    if seen.canary.n.sum() < LEAST_PLAYBACKS:
        return False
    limits = STAGES[2].margins
    ratio = 1 + factor * (limits[COMPLAINT] - 1)
    often = seen.canary.mean(COMPLAINT) > ratio * seen.control.mean(COMPLAINT) > 0
    return often or any(seen.harm(name) > factor * limits[name] for name in (COMPLETION, POWER))


def mann_whitney(seen: Seen, alpha: float) -> bool:
    z = float(norm.isf(alpha / len(METRICS)))
    for name in METRICS:
        a = WORSE[name] * np.array(seen.series.canary[name])
        b = WORSE[name] * np.array(seen.series.control[name])
        m, n = len(a), len(b)
        shifts = np.sort(np.subtract.outer(a, b).ravel())
        rank = math.floor(m * n / 2 - z * math.sqrt(m * n * (m + n + 1) / 12))
        if rank >= 0 and shifts[rank] > TOLERANCE * abs(float(np.median(shifts))):
            return True
    return False


def z_playbacks(seen: Seen, alpha: float) -> bool:
    need = float(norm.isf(alpha / len(METRICS)))
    return any(
        seen.harm(name) > need * math.sqrt(seen.canary.variance_playbacks(name) + seen.control.variance_playbacks(name))
        for name in METRICS
    )


def gbstats_playbacks(seen: Seen, alpha: float) -> bool:
    n = float(seen.canary.n.sum() + seen.control.n.sum())
    return any(
        _outside(
            seen.harm(name), seen.canary.variance_playbacks(name) + seen.control.variance_playbacks(name), n, alpha
        )
        for name in METRICS
    )


def gbstats_frames(seen: Seen, alpha: float) -> bool:
    n = float((seen.canary.n > 0).sum() + (seen.control.n > 0).sum())
    return any(
        _outside(seen.harm(name), seen.canary.variance_frames(name) + seen.control.variance_frames(name), n, alpha)
        for name in METRICS
    )


def _outside(harm: float, variance: float, n: float, alpha: float) -> bool:
    """Two-sided intervals, of which one side is looked at: so they get twice the part of alpha."""
    part = 2 * alpha / len(METRICS)
    tau = math.sqrt(variance * n) * gbstats_rho(part, TUNING)
    return harm > float(eprocess.half_width(variance, tau, part))


METHODS: dict[str, tuple[Method, Sequence[float], float]] = {
    "threshold": (threshold, FACTORS, 1.0),
    "mann_whitney": (mann_whitney, ALPHAS, 0.05),
    "z_playbacks": (z_playbacks, ALPHAS, 0.05),
    "gbstats_playbacks": (gbstats_playbacks, ALPHAS, 0.05),
    "gbstats_frames": (gbstats_frames, ALPHAS, 0.05),
}
"""Method -> what it does, the levels that are tried, the usual one."""


def compare(model: Model, effect: Effect, policy: Policy, seed: Sequence[int]) -> dict[str, dict[float, float]]:
    """Hour of the first alarm by method and level, infinity for none, in one fleet that all of them watch."""
    random = np.random.default_rng(seed)
    ledger = Ledger(World(model, random), effect, [SHARE, STAGES[2].share, 1.0], random.bytes(8).hex(), policy)
    ledger.offer(SHARE)
    stage, series = Stage(SHARE, 0.0), Series()
    before: dict[str, FloatArray] = {}
    found = {name: dict.fromkeys(levels, math.inf) for name, (_, levels, _) in METHODS.items()}
    found[OURS] = dict.fromkeys(ALPHAS, math.inf)
    while ledger.now_h < DAYS * 24 and any(math.isinf(hour) for levels in found.values() for hour in levels.values()):
        ledger.advance(LOOK_H)
        seen = _seen(ledger, series, before)
        for name, (method, _, _) in METHODS.items():
            _note(found[name], ledger.now_h, partial(method, seen))
        if any(math.isinf(hour) for hour in found[OURS].values()):
            verdict = judge(evaluate(ledger.table(), stage, 0.0, policy), stage, float(ledger.now_h), policy)
            _note(found[OURS], ledger.now_h, partial(_reached, verdict.log_total))
    return found


def _reached(log_total: float, alpha: float) -> bool:
    return log_total >= math.log(1 / alpha)


def _note(first: dict[float, float], hour: int, alarmed: Callable[[float], bool]) -> None:
    for level, known in first.items():
        if math.isinf(known) and alarmed(level):
            first[level] = float(hour)


def _seen(ledger: Ledger, series: Series, before: dict[str, FloatArray]) -> Seen:
    days = (ledger.now_h - 1) // 24 + 1
    now = {
        "n": ledger.played[:, :days].sum(axis=1),
        COMPLETION: ledger.sums[COMPLETION][:, :days].sum(axis=1),
        POWER: ledger.sums[POWER][:, :days].sum(axis=1),
        COMPLAINT: ledger.complaints[:, :days].sum(axis=1),
        "squares": ledger.power_squares[:, :days].sum(axis=1),
    }
    sides = []
    for arm, averages in ((Arm.CANARY, series.canary), (Arm.CONTROL, series.control)):
        of = ledger.arm == arm
        side = {name: values[of] for name, values in now.items()}
        played = float(side["n"].sum() - (before["n"][of].sum() if before else 0.0))
        for name in METRICS:
            new = float(side[name].sum() - (before[name][of].sum() if before else 0.0))
            if played > 0:
                averages[name].append(new / played)
        squares = {COMPLETION: float(side[COMPLETION].sum()), COMPLAINT: float(side[COMPLAINT].sum())}
        squares[POWER] = float(side["squares"].sum())
        sides.append(Side(side["n"], {name: side[name] for name in METRICS}, squares))
    before.update(now)
    return Seen(sides[0], sides[1], series)
