"""A rollout that has not begun, many times over: when would it be promoted or rolled back, and what holds it up?

Nothing is drawn but estimates (``drawn``), as the fleet's past says they vary (``power``). At every look the rollout's
own tests are asked of them, with the stages' margins, the policy's weights and its minimum exposure (``verdict``):

    ROLLBACK  if sum_k w_k E_k >= 1/alpha;  PROMOTE  if every non-inferiority E >= 1/alpha and the dwell is met

Symbols and sources are those of the modules named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ota.domain.analysis.drawn import ComplaintTest, MeasureTest
from ota.domain.analysis.policy import COMPLAINT, Policy, Stage
from ota.domain.analysis.power import Fleet
from ota.domain.analysis.schedule import LOOK_H, Schedule
from ota.domain.analysis.table import FloatArray

EXPOSURE = "exposure"
"""Stands among the metrics for too little exposure."""


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsed:
    """What happened in each run. ``opened_h``, shape (runs, stages + 1): when each stage with somebody to compare with
    opened, and when the last of them was promoted; infinity for never. ``waited``, by metric, shape (stages,): looks
    after the dwell at which it was not shown to be harmless yet, of all runs together."""

    opened_h: FloatArray
    rolled_back_h: FloatArray
    waited: Mapping[str, FloatArray]


def rehearse(
    fleet: Fleet, stages: Sequence[Stage], policy: Policy, effect: Mapping[str, float], runs: int, seed: int
) -> Rehearsed:
    """``effect`` is what the release does: in a measure's own unit, complaints as a ratio; {} for nothing."""
    tested = [stage for stage in stages if stage.share < 1]
    schedule = Schedule(fleet, tested, policy, runs)
    random = np.random.default_rng(seed)
    asked = {name for stage in tested for name in stage.margins} | set(effect)
    tests: dict[str, MeasureTest | ComplaintTest] = {
        measure.name: MeasureTest(fleet, measure, policy, schedule, effect.get(measure.name, 0.0), random)
        for measure in policy.measures
        if measure.name in asked and measure.name in fleet.measures
    }
    if COMPLAINT in asked:
        tests[COMPLAINT] = ComplaintTest(fleet, policy, schedule, effect.get(COMPLAINT, 1.0), random)
    rolled_back = np.full(runs, np.inf)
    waited = {name: np.zeros(len(tested)) for name in (*sorted(asked), EXPOSURE)}
    weights = policy.weights()
    for look in range(1, schedule.looks + 1):
        going = schedule.move(look)
        if not going.any():
            break
        enough = schedule.enough()
        total = np.zeros(runs)
        shown = {name: np.zeros(runs, dtype=np.bool_) for name in asked}
        for name, test in tests.items():
            harm, noninferior = test.look(schedule)
            counts = enough | (name == COMPLAINT)
            total += np.where(counts, weights.get(name, 0.0) * np.exp(np.minimum(harm, 50.0)), 0.0)
            shown[name] = noninferior >= np.log(1 / policy.alpha)
        back = going & (total >= 1 / policy.alpha)
        rolled_back[back] = look * LOOK_H
        going &= ~back
        for number, stage in enumerate(tested):
            due = going & (schedule.stage == number) & schedule.dwelt(stage)
            ready = due & (enough | (not stage.margins))
            if stage.margins:
                waited[EXPOSURE][number] += (due & ~enough).sum()
            for name in stage.margins:
                waited[name][number] += (due & ~shown[name]).sum()
                ready &= shown[name]
            schedule.promote(ready, number)
        schedule.stop(back)
    opened = np.where(schedule.opened <= schedule.looks, schedule.opened * LOOK_H, np.inf)
    return Rehearsed(opened, rolled_back, waited)
