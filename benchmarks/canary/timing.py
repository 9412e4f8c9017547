"""How long one evaluation takes in memory: the best of several, in a process that does nothing else."""

import statistics
import time

import numpy as np

from benchmarks.canary.staged import Ledger
from benchmarks.canary.world import Effect, Model, World
from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import STAGES, Policy
from ota.domain.analysis.table import Table

LARGE = 100_000
DAYS = 28
REPEATS = 7


def month(frames: int, seed: int) -> Table:
    """28 days of a fleet, a quarter of it canaries."""
    random = np.random.default_rng([seed, frames])
    shares = [stage.share for stage in STAGES]
    ledger = Ledger(World(Model(frames=frames), random), Effect(), shares, random.bytes(8).hex(), Policy())
    ledger.offer(STAGES[2].share)
    for _ in range(DAYS):
        ledger.advance(24)
    return ledger.table()


def seconds(table: Table) -> tuple[float, float]:
    """Best and median of one evaluation."""
    took = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        evaluate(table, STAGES[2], 0.0, Policy())
        took.append(time.perf_counter() - begun)
    return min(took), statistics.median(took)


def measure(seed: int) -> dict[str, float]:
    """``evaluate_100k_s``, and how many times as long that is as a tenth of the fleet takes."""
    large = month(LARGE, seed)
    best, middle = seconds(large)
    rows = len(large.days)
    del large
    small, _ = seconds(month(LARGE // 10, seed))
    return {
        "evaluate_100k_s": round(best, 3),
        "evaluate_100k_median_s": round(middle, 3),
        "evaluate_100k_rows": rows,
        "evaluate_growth_10x": round(best / small, 2),
    }
