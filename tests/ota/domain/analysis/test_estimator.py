"""The stratified estimator: by hand, against a slow version written from the formulas, and what must not matter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.domain.analysis import baseline
from ota.domain.analysis.estimator import Estimate, Sample, estimate, sample, variance_of_controls
from ota.domain.analysis.policy import COMPLETION, FPS, POWER
from ota.domain.analysis.table import Arm, Sums, Table, build
from tests.ota.domain.analysis.people import MEASURES, POLICY, Effect, fleet, table

COMPLETES, WATTS = MEASURES
TABLE = table(7, frames=400, days=5)


def found(of: Table, measure: int = 0) -> Estimate:
    data = sample(of, MEASURES[measure], POLICY)
    result = estimate(data, POLICY) if data else None
    assert result is not None
    return result


def test_one_stratum_by_hand() -> None:
    """Two controls at +1 and -1, one canary at +3, one playback each: r_C = 0; every R^2/n of controls is 1, so
    g = 1, W = 1, theta = 3, omega = 1/2, V_C1 = 2 (1/2 / (1 - 1/2))^2 = 2, V_C0 = 2 (1/2)^2, V_T0 = 1, V_T1 = 0."""
    data = Sample(
        canary=np.array([True, False, False]),
        frame=np.array([0, 1, 2]),
        stratum=np.zeros(3, dtype=np.int64),
        count=np.ones(3),
        deviation=np.array([3.0, 1.0, -1.0]),
    )
    result = estimate(data, replace(POLICY, comparable_frames=2))
    assert result == Estimate(3.0, 2.0, 1.0, 0.0, 1, 1.0, 2, 2.0)
    assert estimate(data, POLICY) is None, "two controls are too few to learn a variance from"


def test_it_is_what_the_formulas_say() -> None:
    """Frame by frame and stratum by stratum in plain Python."""
    data = sample(TABLE, COMPLETES, POLICY)
    assert data is not None
    rows = list(zip(data.frame.tolist(), data.stratum.tolist(), data.count, data.deviation, strict=True))
    canary = data.canary.tolist()
    frames, strata = set(data.frame.tolist()), set(data.stratum.tolist())
    control_n = {s: sum(n for i, t, n, _ in rows if t == s and not canary[i]) for s in strata}
    control_d = {s: sum(d for i, t, _, d in rows if t == s and not canary[i]) for s in strata}
    n, r = dict.fromkeys(frames, 0.0), dict.fromkeys(frames, 0.0)
    for i, s, count, deviation in rows:
        n[i] += count
        r[i] += deviation - count * control_d[s] / control_n[s]
    controls = [i for i in frames if not canary[i]]
    within, between = variance_of_controls(
        np.array([n[i] for i in controls]), np.array([r[i] for i in controls]), POLICY.variance_rounds
    )
    g = {i: 1 / (within + between * n[i]) for i in frames}
    treated = [i for i in frames if canary[i]]
    total = sum(g[i] * n[i] for i in treated)
    theta = sum(g[i] * r[i] for i in treated) / total
    omega = {s: sum(g[i] * c for i, t, c, _ in rows if t == s and canary[i]) / control_n[s] for s in strata}
    pull, scaled, squared = (dict.fromkeys(controls, 0.0) for _ in range(3))
    for i, s, count, deviation in rows:
        if not canary[i]:
            others = (control_d[s] - deviation) / (control_n[s] - count)
            pull[i] += omega[s] * (deviation - count * others)
            scaled[i] += omega[s] * count
            squared[i] += omega[s] ** 2 * count
    result = found(TABLE)
    assert result.effect == pytest.approx(theta, rel=1e-9)
    v_c1 = sum(p**2 for p in pull.values()) / total**2
    v_c0 = sum(within * squared[i] + between * scaled[i] ** 2 for i in controls) / total**2
    assert result.variance_control == pytest.approx(max(v_c0, v_c1), rel=1e-9)
    v_t0 = sum(g[i] ** 2 * (within * n[i] + between * n[i] ** 2) for i in treated) / total**2
    assert result.variance_canary == pytest.approx(v_t0, rel=1e-9)
    v_t1 = sum(g[i] ** 2 * (r[i] - n[i] * theta) ** 2 for i in treated) / total**2
    assert result.variance_canary_seen == pytest.approx(v_t1, rel=1e-9)


@given(unit=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_the_unit_does_not_matter(unit: float) -> None:
    data = sample(TABLE, WATTS, POLICY)
    assert data is not None
    plain = found(TABLE, 1)
    scaled = estimate(replace(data, deviation=data.deviation * unit), POLICY)
    assert scaled is not None
    assert scaled.effect == pytest.approx(plain.effect * unit, rel=1e-6)
    assert scaled.variance_cautious == pytest.approx(plain.variance_cautious * unit**2, rel=1e-6)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_a_day_did_to_everybody_is_no_effect(seed: int) -> None:
    """A shock per day and hardware, the same for all frames, changes nothing."""
    data = sample(TABLE, WATTS, POLICY)
    assert data is not None
    shock = np.random.default_rng(seed).normal(0, 5, int(data.stratum.max()) + 1)
    shocked = estimate(replace(data, deviation=data.deviation + data.count * shock[data.stratum]), POLICY)
    assert shocked is not None
    assert shocked.effect == pytest.approx(found(TABLE, 1).effect, abs=1e-9)
    assert shocked.variance == pytest.approx(found(TABLE, 1).variance, rel=1e-6)


def test_swapping_arms_turns_the_sign() -> None:
    harmful = table(8, share=0.5, effect=Effect(power=0.2))
    frames = harmful.frames
    arm = 1 - frames.arm
    offered = np.where(arm == Arm.CANARY, 0.0, np.inf)
    swapped = replace(harmful, frames=replace(frames, arm=arm, offered_h=offered))
    assert found(harmful, 1).effect == pytest.approx(0.2, abs=0.01)
    assert found(swapped, 1).effect == pytest.approx(-0.2, abs=0.01)


def test_the_variance_is_that_of_the_estimate() -> None:
    """120 harmless fleets: theta / sqrt(V) has a standard deviation near 1 for both variances."""
    results = [found(table(seed, frames=300, days=4)) for seed in range(120)]
    for variance in ("variance", "variance_cautious"):
        scores = np.array([result.effect / getattr(result, variance) ** 0.5 for result in results])
        assert 0.8 < scores.std() < 1.2
        assert abs(scores.mean()) < 0.3


def test_controls_variance_is_found_within_and_between_frames() -> None:
    random = np.random.default_rng(5)
    n = random.integers(1, 60, 20000).astype(np.float64)
    r = random.normal(0, np.sqrt(0.15 * n)) + n * random.normal(0, 0.05, len(n))
    within, between = variance_of_controls(n, r, 3)
    assert within == pytest.approx(0.15, rel=0.05)
    assert between == pytest.approx(0.0025, rel=0.15)


def test_before_its_offer_a_canary_is_not_compared() -> None:
    """Half of the canaries are offered on day 3: only their later days count."""
    frames, days = fleet(9, frames=400, days=6, effect=Effect(power=0.2))
    late = (np.arange(400) % 2 == 0) & (frames.arm == Arm.CANARY)
    frames = replace(frames, offered_h=np.where(late, 72.0, frames.offered_h))
    before = late[days.frame] & (days.day < 3)
    watts = days.sums[POWER]
    wild = {**days.sums, POWER: Sums(np.where(before, 0.0, watts.total), watts.count)}
    kept = found(build(frames, replace(days, sums=wild), 143.5), 1)
    assert kept.effect == pytest.approx(0.2, abs=0.03)


def test_days_without_controls_are_left_out() -> None:
    frames, days = fleet(10, frames=200, days=4)
    gone = (frames.arm[days.frame] == Arm.CONTROL) & (days.day == 2)
    sums = {name: Sums(s.total, np.where(gone, 0.0, s.count)) for name, s in days.sums.items()}
    whole, part = found(build(frames, days, 95.0)), found(build(frames, replace(days, sums=sums), 95.0))
    assert part.canary_playbacks < whole.canary_playbacks
    assert abs(part.effect) < 0.1


def test_a_measure_without_data_or_without_chance_is_no_estimate() -> None:
    assert sample(TABLE, replace(WATTS, name=FPS), POLICY) is None
    data = sample(TABLE, WATTS, POLICY)
    assert data is not None
    assert estimate(replace(data, deviation=np.zeros(len(data.frame))), POLICY) is None
    assert estimate(replace(data, canary=np.zeros(400, dtype=bool)), POLICY) is None


def test_the_intraclass_correlation_is_refitted_from_the_past() -> None:
    frames, _ = fleet(11, frames=3000, days=1)
    assert baseline.intraclass_correlation(frames.history[COMPLETION], POLICY) == pytest.approx(0.10, abs=0.01)
    few = Sums(np.array([3.0, 4.0]), np.array([4.0, 4.0]))
    assert baseline.intraclass_correlation(few, POLICY) == POLICY.icc


def test_a_frame_without_a_past_is_expected_to_be_as_its_hardware() -> None:
    frames, days = fleet(12, frames=50, days=1)
    sums = frames.history[POWER]
    newcomer = Sums(sums.total.copy(), sums.count.copy())
    newcomer.total[0] = newcomer.count[0] = 0.0
    of = build(replace(frames, history={POWER: newcomer}), days, 23.0)
    alike = frames.hardware == frames.hardware[0]
    mean = newcomer.total[alike].sum() / newcomer.count[alike].sum()
    assert baseline.offsets(of, WATTS, POLICY)[0] == pytest.approx(mean, rel=1e-12)


def test_a_broken_meter_is_bounded() -> None:
    sums = Sums(np.array([5000.0, 10.0]), np.array([2.0, 2.0]))
    assert baseline.deviations(sums, np.array([4.8, 4.8]), 1.0) == pytest.approx([2.0, 0.4])


def test_frailty_is_found_and_rates_follow_the_past() -> None:
    random = np.random.default_rng(6)
    rates = random.gamma(0.5, 2.0, 20000) * 0.02
    seen = random.poisson(rates * 90).astype(np.float64)
    days = np.full(20000, 90.0)
    assert baseline.frailty(seen, days, POLICY) == pytest.approx(2.0, rel=0.1)
    frames = TABLE.frames
    rates = baseline.complaint_rates(TABLE, POLICY)
    by_past = rates[np.argsort(frames.history_complaints, kind="stable")]
    assert bool((np.diff(by_past) >= 0).all())
    # Drawn towards the fleet's mean: nobody is expected never to complain, nor as often as in their worst time.
    assert rates.min() > 0
    assert rates.max() < (frames.history_complaints / frames.history_days).max()


def test_a_single_control_tells_nothing_about_a_day() -> None:
    """Nothing says how far it lies from other controls, so the second stratum is left out."""
    whole = Sample(
        canary=np.array([True, False, False, True]),
        frame=np.array([0, 1, 2, 3, 1]),
        stratum=np.array([0, 0, 0, 1, 1]),
        count=np.ones(5),
        deviation=np.array([3.0, 1.0, -1.0, 40.0, 30.0]),
    )
    first = replace(
        whole,
        frame=whole.frame[:3],
        stratum=whole.stratum[:3],
        count=whole.count[:3],
        deviation=whole.deviation[:3],
    )
    policy = replace(POLICY, comparable_frames=2)
    assert estimate(whole, policy) == estimate(first, policy)


def test_few_controls_are_not_taken_for_many() -> None:
    """A small fleet's holdback: 150 harmless fleets with 37 controls each."""
    results = [found(table(seed, frames=150, days=5, share=0.75)) for seed in range(150)]
    scores = np.array([result.effect / result.variance**0.5 for result in results])
    assert scores.std() < 1.1
