"""From evidence to a verdict: every reason, faults, and whole simulated rollouts."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.exposure import Exposure
from ota.domain.analysis.logrank import first_dark
from ota.domain.analysis.policy import COMPLAINT, COMPLETION, DARK, POWER, STAGES, Policy, RareEvent, Stage
from ota.domain.analysis.table import Arm, Table, take
from ota.domain.analysis.verdict import Decision, Evidence, MetricEvidence, Reason, Verdict, judge
from tests.ota.domain.analysis.people import POLICY, Effect, table, with_first

SMOKE, _, QUARTER, _ = STAGES
D, R = Decision, Reason
SHOWN, NEEDED = 5.0, math.log(20)
ENOUGH = Exposure(100, 1000, 90, 20, 100, 0.0)


def metric(name: str, harm: float | None = 0.0, noninferior: float | None = SHOWN) -> MetricEvidence:
    return MetricEvidence(name, name in (COMPLETION, POWER), harm, noninferior)


GOOD = Evidence(
    now_h=200.0,
    metrics=tuple(metric(name) for name in POLICY.weights()),
    exposure=ENOUGH,
    ratio_log_e=0.0,
    telemetry_age_h=1.0,
)


def but(evidence: Evidence, changed: MetricEvidence) -> Evidence:
    return replace(evidence, metrics=tuple(changed if m.name == changed.name else m for m in evidence.metrics))


def without(evidence: Evidence, name: str) -> Evidence:
    return replace(evidence, metrics=tuple(m for m in evidence.metrics if m.name != name))


HARMFUL = but(GOOD, metric(COMPLAINT, harm=10.0))


@pytest.mark.parametrize(
    ("evidence", "hours", "decision", "reason", "metrics"),
    [
        (GOOD, 48.0, D.PROMOTE, R.HARMLESS, ()),
        (GOOD, 47.9, D.HOLD, R.DWELL, ()),
        (HARMFUL, 1.0, D.ROLLBACK, R.HARM, (COMPLAINT,)),
        (replace(HARMFUL, ratio_log_e=7.0), 48.0, D.HOLD, R.RATIO_MISMATCH, ()),
        (replace(HARMFUL, ratio_log_e=math.nan), 48.0, D.HOLD, R.RATIO_MISMATCH, ()),
        (replace(HARMFUL, exposure=replace(ENOUGH, control_share=0.06)), 48.0, D.HOLD, R.CONTAMINATED, ()),
        (replace(HARMFUL, telemetry_age_h=6.1), 48.0, D.HOLD, R.STALE, ()),
        (replace(HARMFUL, telemetry_age_h=math.nan), 48.0, D.HOLD, R.STALE, ()),
        (without(GOOD, POWER), 48.0, D.HOLD, R.MISSING, (POWER,)),
        (but(GOOD, metric(POWER, harm=math.nan)), 48.0, D.HOLD, R.MISSING, (POWER,)),
        (without(HARMFUL, POWER), 48.0, D.ROLLBACK, R.HARM, (COMPLAINT,)),
        (replace(GOOD, exposure=replace(ENOUGH, frames=19)), 48.0, D.HOLD, R.LITTLE_EXPOSURE, ()),
        (but(GOOD, metric(POWER, noninferior=2.9)), 48.0, D.HOLD, R.NOT_ENOUGH_EVIDENCE, (POWER,)),
        (but(GOOD, metric(COMPLAINT, noninferior=None)), 48.0, D.HOLD, R.NOT_ENOUGH_EVIDENCE, (COMPLAINT,)),
        (but(replace(GOOD, now_h=672.0), metric(POWER, noninferior=2.9)), 99.0, D.HOLD, R.TIME_IS_UP, (POWER,)),
        (replace(GOOD, now_h=672.0), 99.0, D.PROMOTE, R.HARMLESS, ()),
    ],
)
def test_every_reason(
    evidence: Evidence, hours: float, decision: Decision, reason: Reason, metrics: tuple[str, ...]
) -> None:
    found = judge(evidence, QUARTER, hours, POLICY)
    assert (found.decision, found.reason, found.metrics) == (decision, reason, metrics)


def test_the_threshold_is_one_over_alpha_for_the_weighted_sum() -> None:
    """All others at E = 1 give their weights, 0.55; completion must bring the other 19.45 with its weight of 0.2."""
    enough = math.log((20 - 0.55) / 0.2)
    assert judge(but(GOOD, metric(COMPLETION, enough + 1e-9)), QUARTER, 1.0, POLICY).decision is D.ROLLBACK
    below = judge(but(GOOD, metric(COMPLETION, enough - 1e-6)), QUARTER, 1.0, POLICY)
    assert below.decision is D.HOLD
    assert below.log_total == pytest.approx(NEEDED, abs=1e-5)


def test_asymptotic_tests_wait_for_exposure_and_logrank_does_not() -> None:
    few = replace(GOOD, exposure=replace(ENOUGH, frames=3))
    assert judge(but(few, metric(COMPLETION, 50.0)), QUARTER, 1.0, POLICY).decision is D.HOLD
    assert judge(but(few, metric(DARK, 50.0)), QUARTER, 1.0, POLICY).metrics == (DARK,)


def test_a_smoke_stage_asks_for_its_dwell_and_one_playback() -> None:
    few = replace(GOOD, exposure=replace(ENOUGH, playbacks=1, frames=0))
    assert judge(few, SMOKE, 24.0, POLICY).decision is D.PROMOTE
    none = replace(GOOD, exposure=replace(ENOUGH, playbacks=0, frames=0))
    assert judge(none, SMOKE, 24.0, POLICY).reason is R.LITTLE_EXPOSURE


def test_huge_and_absent_evidence_stay_finite_sums() -> None:
    assert judge(but(GOOD, metric(POWER, 1e6)), QUARTER, 1.0, POLICY).log_total == pytest.approx(1e6, rel=1e-5)
    silent = replace(GOOD, metrics=tuple(metric(name, harm=None) for name in POLICY.weights()))
    assert judge(silent, QUARTER, 1.0, POLICY).log_total == -math.inf


def test_policies_and_stages_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        replace(POLICY, events=(RareEvent(DARK, 0.9),))
    with pytest.raises(ValueError, match="once"):
        replace(POLICY, measures=(), events=(RareEvent(DARK, 0.1), RareEvent(DARK, 0.1)))
    with pytest.raises(ValueError, match="ratio above 1"):
        Stage(0.1, 24, {COMPLAINT: 0.5})
    with pytest.raises(ValueError, match="above 0"):
        Stage(0.1, 24, {COMPLETION: -0.02})
    assert 0 < sum(Policy().weights().values()) <= 1.0


# --- whole rollouts ---------------------------------------------------------------------------------------------------


def look(of: Table, age_h: float = 1.0, policy: Policy = POLICY) -> Verdict:
    return judge(evaluate(of, QUARTER, age_h, policy), QUARTER, of.now_h, policy)


def at_day(of: Table, day: int) -> Table:
    """What was known at the end of ``day``."""
    return replace(of, days=take(of.days, of.days.day <= day), now_h=day * 24.0 + 23.5)


@pytest.mark.parametrize(
    ("effect", "name"),
    [(Effect(completion=-0.05), COMPLETION), (Effect(power=0.2), POWER), (Effect(complaints=4.0), COMPLAINT)],
)
def test_harm_is_rolled_back_and_named(effect: Effect, name: str) -> None:
    found = look(table(31, effect=effect))
    assert (found.decision, found.reason, found.metrics) == (D.ROLLBACK, R.HARM, (name,))


def test_a_good_release_is_promoted_and_never_rolled_back_at_daily_looks() -> None:
    promoted = 0
    for seed in range(8):
        whole = table(seed + 100, days=10)
        verdicts = [look(at_day(whole, day)).decision for day in range(10)]
        assert D.ROLLBACK not in verdicts
        promoted += D.PROMOTE in verdicts
    assert promoted >= 7


def test_an_outage_of_the_whole_fleet_rolls_nothing_back() -> None:
    """Everybody silent from hour 100: after a day all are dark, and the telemetry is stale."""
    of = table(32, days=4)
    dark = first_dark(np.full(2300, 100.0), np.full(2300, np.inf), 130.0, POLICY)
    out = replace(with_first(of, DARK, dark), now_h=130.0)
    assert look(out, age_h=30.0).reason is R.STALE
    assert look(out, age_h=1.0).decision is not D.ROLLBACK


def test_canaries_that_fall_silent_are_rolled_back_as_dark() -> None:
    of = table(33, days=4)
    canary = of.frames.arm == Arm.CANARY
    silent = replace(of, days=take(of.days, ~canary[of.days.frame]))
    dark = first_dark(np.where(canary, 0.0, of.now_h), np.full(2300, np.inf), of.now_h, POLICY)
    found = look(with_first(silent, DARK, dark))
    assert (found.decision, found.metrics) == (D.ROLLBACK, (DARK,))


def test_swapped_arms_hold() -> None:
    of = table(34, effect=Effect(completion=-0.05))
    arm = 1 - of.frames.arm
    swapped = replace(of.frames, arm=arm, offered_h=np.where(arm == Arm.CANARY, 0.0, np.inf))
    assert look(replace(of, frames=swapped)).reason is R.RATIO_MISMATCH
    half = Stage(0.5, 48, QUARTER.margins)
    even = table(34, share=0.5)
    arm = 1 - even.frames.arm
    swapped = replace(even.frames, arm=arm, offered_h=np.where(arm == Arm.CANARY, 0.0, np.inf))
    found = judge(evaluate(replace(even, frames=swapped), half, 1.0, POLICY), half, 240.0, POLICY)
    assert found.reason is R.CONTAMINATED


def test_success_on_the_old_version_is_no_exposure() -> None:
    assert look(table(35, effect=Effect(works=False))).reason is R.LITTLE_EXPOSURE


def test_a_metric_that_fails_holds_and_is_named() -> None:
    of = table(36)
    lost = replace(of, days=replace(of.days, sums={COMPLETION: of.days.sums[COMPLETION]}))
    found = look(lost)
    assert (found.decision, found.reason, found.metrics) == (D.HOLD, R.MISSING, (POWER,))
    zeros = replace(of.days.sums[POWER], total=np.zeros(len(of.days)))
    history = {name: sums for name, sums in of.frames.history.items() if name != POWER}
    dead = replace(
        of,
        frames=replace(of.frames, history=history),
        days=replace(of.days, sums={**of.days.sums, POWER: zeros}),
    )
    assert look(dead).metrics == (POWER,)


def test_before_anything_is_played_nothing_is_said() -> None:
    of = table(37, days=1)
    found = look(replace(of, days=take(of.days, of.days.day < 0)))
    assert (found.decision, found.reason) == (D.HOLD, R.LITTLE_EXPOSURE)
