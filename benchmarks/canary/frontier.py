"""Detection time against false rollbacks, at several alphas: ours as it is rolled out, and beside other systems.

A rollout whose rollback is overruled goes on; the first hour at which its evidence reached 1/alpha is noted for every
alpha at once, so that one set of rollouts gives the whole line.
"""

import math
from collections.abc import Mapping, Sequence

from benchmarks.canary import staged
from benchmarks.canary.figures import median
from benchmarks.canary.peers import ALPHAS, METHODS, OURS
from benchmarks.canary.scenarios import BY_NAME
from ota.domain.analysis.policy import Policy

HARMS = ("completion", "power", "complaints")
"""Scenarios, beside no effect."""


def crossings(name: str, policy: Policy, seed: Sequence[int]) -> dict[float, float]:
    """Hour at which a staged rollout of scenario ``name`` is rolled back, by alpha; infinity for never."""
    scenario, found = BY_NAME[name], dict.fromkeys(ALPHAS, math.inf)

    def overrule(look: staged.Look) -> bool:
        for alpha, hour in found.items():
            if math.isinf(hour) and look.verdict.log_total >= math.log(1 / alpha):
                found[alpha] = look.table.now_h
        return any(math.isinf(hour) for hour in found.values())

    staged.run(scenario.model, scenario.effect, scenario.stages, policy, seed, overrule)
    return found


def detection(hours: Sequence[float]) -> dict[str, float | None]:
    """Share detected, and the median hour over all runs, undetected ones counted as never."""
    middle = median(hours)
    return {
        "detected": round(sum(math.isfinite(hour) for hour in hours) / len(hours), 5),
        "median_h": middle if middle is not None and math.isfinite(middle) else None,
    }


def staged_lines(found: Mapping[str, Sequence[Mapping[float, float]]]) -> list[dict[str, object]]:
    """One point for each alpha: false rollbacks, and each harm's detection."""
    return [
        {
            "alpha": alpha,
            "false_rollback": detection([run[alpha] for run in found["no_effect"]])["detected"],
            **{f"{name}": detection([run[alpha] for run in found[name]]) for name in HARMS},
        }
        for alpha in ALPHAS
    ]


def peer_lines(
    found: Mapping[str, Sequence[Mapping[str, Mapping[float, float]]]],
) -> dict[str, list[dict[str, object]]]:
    """By method, one point for each level: false alarms, and each harm's detection."""
    levels = {OURS: ALPHAS, **{name: levels for name, (_, levels, _) in METHODS.items()}}
    return {
        name: [
            {
                "level": level,
                "false_alarm": detection([run[name][level] for run in found["no_effect"]])["detected"],
                **{harm: detection([run[name][level] for run in found[harm]]) for harm in HARMS},
            }
            for level in levels[name]
        ]
        for name in levels
    }


def usual(lines: Mapping[str, list[dict[str, object]]], alpha: float) -> dict[str, dict[str, object]]:
    """Each method at its usual level."""
    at = {OURS: alpha, **{name: level for name, (_, _, level) in METHODS.items()}}
    return {name: next(point for point in points if point["level"] == at[name]) for name, points in lines.items()}
