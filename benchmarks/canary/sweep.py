"""``make bench-canary``: every figure of the gray release, from simulated rollouts. The last line is ``BENCH {json}``.

A full run writes results.json and frontier.svg beside this file; ``--quick`` has fewer runs, hence wider bounds, and
writes both under build/. Seeds are fresh unless one is given; the one in use is printed and kept.
"""

import argparse
import json
import math
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.canary import frontier, peers, picture, staged, timing
from benchmarks.canary.figures import Ends, ends, headline
from benchmarks.canary.golden import golden_error
from benchmarks.canary.scenarios import BY_NAME, SCENARIOS
from ota.domain.analysis.policy import Policy

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "canary"
POLICY = Policy()
MOST_PROCESSES = 16
CROSSINGS = {"no_effect": (1000, 30), "completion": (80, 8), "power": (40, 6), "complaints": (80, 8)}
"""Rollouts for the frontier, by scenario: in a full run, and in a quick one."""
PEERS = {"no_effect": (150, 8), "completion": (60, 6), "power": (40, 4), "complaints": (60, 6)}
ROWS = (25, 20)
LARGE = 100_000
_T = TypeVar("_T")
_A = TypeVar("_A")

# Keys first, as people look for them; the rest of the results follows.
GATES: dict[str, tuple[float, str]] = {
    "false_rollback_upper95": (0.025, "<="),
    "false_rollback_harder_upper95": (0.035, "<="),
    "harmful_promoted": (0, "<="),
    "boundary_promoted_upper95": (0.05, "<="),
    "completion_rolled_back": (0.99, ">="),
    "completion_median_h": (90, "<="),
    "power_rolled_back": (0.99, ">="),
    "power_median_h": (45, "<="),
    "complaints_rolled_back": (0.97, ">="),
    "complaints_median_h": (190, "<="),
    "good_promoted": (0.97, ">="),
    "good_median_h": (264, "<="),
    "good_median_h_10k": (120, "<="),
    "evaluate_100k_s": (1, "<="),
    "evaluate_100k_db_s": (5, "<="),
    "evaluate_growth_10x": (11, "<="),
    "golden_error": (1e-9, "<="),
    "rows_differences": (0, "<="),
}


def one_rollout(seed: int, job: tuple[int, int]) -> staged.Result:
    """``job``: number of the scenario and of the run."""
    scenario = SCENARIOS[job[0]]
    return staged.run(
        scenario.model, scenario.effect, scenario.stages, POLICY, [seed, 1, *job], holdback=scenario.holdback
    )


def one_crossing(seed: int, job: tuple[str, int]) -> dict[float, float]:
    return frontier.crossings(job[0], POLICY, [seed, 2, SCENARIOS.index(BY_NAME[job[0]]), job[1]])


def one_comparison(seed: int, job: tuple[str, int]) -> dict[str, dict[float, float]]:
    scenario = BY_NAME[job[0]]
    return peers.compare(scenario.model, scenario.effect, POLICY, [seed, 3, SCENARIOS.index(scenario), job[1]])


class Workers:
    """As many processes as there are cores, each with runs of its own."""

    def __init__(self) -> None:
        self.count = min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
        self._pool = ProcessPoolExecutor(self.count)
        self._begun = time.monotonic()

    def each(self, what: str, work: Callable[[_A], _T], jobs: Sequence[_A]) -> list[_T]:
        """In the order of ``jobs``."""
        found = list(self._pool.map(work, jobs))
        print(f"{time.monotonic() - self._begun:6.0f} s  {what}: {len(jobs)}", flush=True)
        return found

    def close(self) -> None:
        self._pool.shutdown()


def sweep(workers: Workers, seed: int, quick: bool) -> dict[str, Ends]:
    found = {}
    for number, scenario in enumerate(SCENARIOS):
        runs = scenario.quick if quick else scenario.runs
        found[scenario.name] = ends(
            workers.each(scenario.words, partial(one_rollout, seed), [(number, run) for run in range(runs)])
        )
    return found


def _by_scenario(plan: dict[str, tuple[int, int]], quick: bool) -> list[tuple[str, int]]:
    return [(name, run) for name, runs in plan.items() for run in range(runs[quick])]


def _grouped(jobs: Sequence[tuple[str, int]], found: Sequence[_T]) -> dict[str, list[_T]]:
    groups: dict[str, list[_T]] = {}
    for (name, _), one in zip(jobs, found, strict=True):
        groups.setdefault(name, []).append(one)
    return groups


def compared(workers: Workers, seed: int, quick: bool) -> dict[str, Any]:
    """The frontier of ours and of others."""
    jobs = _by_scenario(CROSSINGS, quick)
    crossed = workers.each("rollouts at several alphas", partial(one_crossing, seed), jobs)
    ours = frontier.staged_lines(_grouped(jobs, crossed))
    jobs = _by_scenario(PEERS, quick)
    beside = workers.each("fleets under several systems", partial(one_comparison, seed), jobs)
    lines = frontier.peer_lines(_grouped(jobs, beside))
    return {"frontier": ours, "peers": frontier.usual(lines, POLICY.alpha), "peers_frontier": lines}


class Rows:
    """The same rollouts through a database, in a process of its own beside the sweep; ``timed`` when that is over."""

    def __init__(self, seed: int, quick: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.canary.rows", str(seed), str(ROWS[quick]), str(LARGE)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def timed(self) -> dict[str, Any]:
        """Its figures. Raises CalledProcessError when it failed."""
        out, _ = self._process.communicate("\n")
        print(out, end="", flush=True)
        if self._process.returncode:
            raise subprocess.CalledProcessError(self._process.returncode, self._process.args)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


def table(figures: dict[str, Any]) -> str:
    lines = []
    for key, (bound, sign) in GATES.items():
        value = figures[key]
        met = value is not None and (value <= bound if sign == "<=" else value >= bound)
        lines.append(f"{key:34} {value!s:>12}   {sign} {bound:g}   {'met' if met else 'MISSED'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--seed", type=int, help="the same runs as another time")
    given = parser.parse_args()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    print(f"SEED={seed}", flush=True)
    begun = time.monotonic()
    rows = Rows(seed, given.quick)
    workers = Workers()
    found = sweep(workers, seed, given.quick)
    compare = compared(workers, seed, given.quick)
    workers.close()
    figures = {
        **headline(found),
        **compare,
        **timing.measure(seed),
        **rows.timed(),
        "golden_error": golden_error(),
        "seed": seed,
    }
    scenarios = {name: {"words": BY_NAME[name].words, **ends.summary()} for name, ends in found.items()}
    out = BUILD if given.quick else HERE
    out.mkdir(parents=True, exist_ok=True)
    took = {"minutes": round((time.monotonic() - begun) / 60, 1), "processes": workers.count}
    kept = {**figures, **took, "scenarios": scenarios, "policy": {"alpha": POLICY.alpha, "weights": POLICY.weights()}}
    (out / "results.json").write_text(json.dumps(_finite(kept), indent=1) + "\n")
    (out / "frontier.svg").write_text(picture.draw(compare["frontier"], compare["peers_frontier"], POLICY.alpha))
    print(table(figures), flush=True)
    del figures["peers_frontier"]
    print("BENCH", json.dumps(_finite({**figures, **took})), flush=True)


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
