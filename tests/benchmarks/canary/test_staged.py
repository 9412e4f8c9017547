"""A simulated rollout, judged by the product, and the tables that it is judged by."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.canary.staged import Ledger, Look, run
from benchmarks.canary.world import Effect, Model, World
from ota.domain import assignment
from ota.domain.analysis.policy import COMPLAINT, COMPLETION, DARK, POWER, SMALL_FLEET_STAGES, STAGES, Policy
from ota.domain.analysis.table import Arm
from ota.domain.analysis.verdict import Decision

SMALL = Model(frames=400)
SHARES = [stage.share for stage in STAGES]


def ledger(effect: Effect, seed: int = 1) -> Ledger:
    return Ledger(World(SMALL, np.random.default_rng(seed)), effect, SHARES, "salt", Policy())


def test_assignment_is_the_products() -> None:
    of = ledger(Effect())
    of.offer(0.25)
    for i in (0, 17, 399):
        u = assignment.household_number("salt", f"household-{i}")
        assert of.arm[i] == (Arm.CANARY if u < 0.25 else Arm.CONTROL)


def test_on_the_day_of_its_offer_a_canary_counts_from_the_offer_on() -> None:
    of = ledger(Effect())
    of.advance(18)
    before = of.played[:, 0].copy()
    of.offer(0.25)
    of.advance(6)
    canary = of.arm == Arm.CANARY
    slot = np.bincount(of.slot.frame, minlength=400)
    assert before[canary].sum() > 0
    assert of.played[canary, 0].tolist() == slot[canary].tolist()
    assert of.played[~canary, 0].tolist() == (before + slot)[~canary].tolist()


def test_effects_reach_canaries_only() -> None:
    of, same = ledger(Effect(completion=-0.3, power=0.2)), ledger(Effect())
    for one in (of, same):
        one.offer(0.25)
        one.advance(24)
    canary = of.arm == Arm.CANARY
    worse = same.sums[COMPLETION][:, 0] - of.sums[COMPLETION][:, 0]
    hotter = of.sums[POWER][:, 0] - same.sums[POWER][:, 0]
    assert worse[canary].sum() / of.played[canary, 0].sum() == pytest.approx(0.3, abs=0.05)
    assert hotter[canary] == pytest.approx(0.2 * of.played[canary, 0])
    assert np.abs(worse[~canary]).sum() == 0
    assert np.abs(hotter[~canary]).sum() == 0


def test_every_complaint_lies_in_its_day_and_the_first_is_kept() -> None:
    of = ledger(Effect(complaints=30.0))
    of.offer(1.0)
    for _ in range(8):
        of.advance(12)
    complained = of.complaints.any(axis=1)
    assert complained.any()
    assert np.isfinite(of.first_h[COMPLAINT]).tolist() == complained.tolist()
    assert np.all(of.complaints <= of.played)


def test_silent_canaries_go_dark_and_are_not_heard() -> None:
    of = ledger(Effect(silent=1.0))
    of.offer(0.25)
    for _ in range(3):
        of.advance(24)
    canary = of.arm == Arm.CANARY
    assert of.played[canary, 1:].sum() == 0
    assert of.first_h[DARK][canary].max() <= 30
    assert np.isinf(of.first_h[DARK][~canary]).mean() > 0.95


def test_a_seed_gives_the_same_rollout_and_another_another() -> None:
    first, again, other = (
        run(SMALL, Effect(power=0.05), SMALL_FLEET_STAGES, Policy(), seed, look_h=24)
        for seed in ([3, 1], [3, 1], [3, 2])
    )
    assert first == again
    assert first != other


def test_a_harmful_release_is_rolled_back_before_everybody_has_it() -> None:
    looks: list[Look] = []

    def watch(look: Look) -> bool:
        looks.append(look)
        return False

    model = replace(SMALL, frames=1000)
    found = run(model, Effect(power=0.3), SMALL_FLEET_STAGES, Policy(), [4], watch, look_h=6)
    assert (found.decision, found.metrics) == (Decision.ROLLBACK, (POWER,))
    assert found.hours == looks[-1].table.now_h == 6 * len(looks)
    assert looks[-1].verdict.decision is Decision.ROLLBACK
    assert all(look.verdict.decision is not Decision.ROLLBACK for look in looks[:-1])


def test_an_overruled_rollback_goes_on() -> None:
    found = run(SMALL, Effect(power=0.5), SMALL_FLEET_STAGES, Policy(last_day=4), [4], lambda _: True, look_h=12)
    assert (found.decision, found.hours) == (Decision.ROLLBACK, 96.0)


def test_with_a_holdback_everybody_else_is_watched_against_it() -> None:
    controls: list[tuple[float, float]] = []

    def watch(look: Look) -> bool:
        control = look.ledger.number[look.ledger.arm == Arm.CONTROL]
        controls.append((look.stage.share, round(float(control.min()), 2)))
        return True

    model, week = replace(SMALL, frames=1000), 168 // 24
    found = run(model, Effect(), SMALL_FLEET_STAGES, Policy(), [4], watch, look_h=24, holdback=0.05)
    assert found.everybody_h == found.opened_h[-1] == found.hours - 24 * week
    assert controls[-week:] == [(0.95, 0.95)] * week
    assert {control for _, control in controls[:-week]} == {0.25}
