"""Complaint non-inferiority: by hand, against simulation, and what must not matter."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ota.domain.analysis import baseline
from ota.domain.analysis.complaints import compare
from ota.domain.analysis.table import Arm, Days, Frames, Table, build
from tests.ota.domain.analysis.people import POLICY, Effect, table

LOG_20 = math.log(20)


def small(complaints: list[tuple[int, int]], arms: list[Arm], days: int = 2) -> Table:
    """Frames without any past, ``complaints`` as (frame, day)."""
    count = len(arms)
    arm = np.array([int(a) for a in arms])
    frames = Frames(
        hardware=np.zeros(count, dtype=np.int64),
        arm=arm,
        offered_h=np.where(arm == Arm.CANARY, 0.0, np.inf),
        entered_h=np.zeros(count),
        left_h=np.full(count, np.inf),
        history={},
        history_complaints=np.zeros(count),
        history_days=np.full(count, 90.0),
        first_h={},
    )
    frame, day = np.array([f for f, _ in complaints]), np.array([d for _, d in complaints])
    one = np.ones(len(complaints))
    return build(frames, Days(frame, day, one, one, one, {}), days * 24.0 - 1e-9)


def test_one_day_by_hand() -> None:
    """Two canaries, four controls, one complaint of each arm on one day: r = 1/4, every m = 1/4, E_T = 1/2, rho = 2,
    w = 1/2. c: ((3/4)^2 - 1/4 + 3 ((1/4)^2 - 1/4)) / (4/16) = -1, so 0. V_2 = 2 / E_T + 4 (1/4) / E_T^2 = 8."""
    arms = [Arm.CANARY] * 2 + [Arm.CONTROL] * 4
    found = compare(small([(0, 0), (2, 0)], arms, days=1), np.ones(6))
    assert found is not None
    assert found.expected == pytest.approx(0.5)
    assert found.ratio == pytest.approx(2.0)
    assert found.overdispersion == 0.0
    assert found.variance(2.0) == pytest.approx(8.0)


def test_where_all_days_weigh_the_same_it_is_the_plain_formula() -> None:
    of = table(21)
    rates = baseline.complaint_rates(of, POLICY)
    found = compare(of, rates)
    assert found is not None
    control = of.frames.arm == Arm.CONTROL
    share = found.control_seen / rates[control].sum()
    m_c, m_t = rates[control] * share, rates[of.frames.arm == Arm.CANARY] * share
    c, r = found.overdispersion, 2.0
    plain = (r * m_t.sum() + c * r**2 * (m_t**2).sum()) / m_t.sum() ** 2
    plain += r**2 * (m_c.sum() + c * (m_c**2).sum()) / m_c.sum() ** 2
    assert found.expected == pytest.approx(m_t.sum(), rel=1e-9)
    assert found.variance(r) == pytest.approx(plain, rel=1e-9)


def test_a_bad_day_for_everybody_is_no_effect() -> None:
    """A third of all frames complain on day 1, in both arms alike."""
    of = table(22, days=6)
    random = np.random.default_rng(1)
    storm = (of.days.day == 1) & (random.random(len(of.days)) < 1 / 3)
    shocked = replace(of, days=replace(of.days, complained=np.maximum(of.days.complained, storm.astype(np.float64))))
    found = compare(shocked, baseline.complaint_rates(of, POLICY))
    assert found is not None
    assert found.ratio == pytest.approx(1.0, abs=0.15)


def test_a_late_offer_is_compared_with_the_same_days_only() -> None:
    """The only complaint of controls came before the offer: nothing to compare with."""
    arms = [Arm.CANARY, Arm.CONTROL, Arm.CONTROL]
    of = small([(1, 0)], arms, days=3)
    offered = np.where(of.frames.arm == Arm.CANARY, 24.0, np.inf)
    late = replace(of, frames=replace(of.frames, offered_h=offered))
    assert compare(late, np.ones(3)) is None
    assert compare(of, np.ones(3)) is not None


def test_the_variance_is_that_of_the_ratio() -> None:
    scores = []
    for seed in range(100):
        of = table(seed, frames=1500, days=8)
        found = compare(of, baseline.complaint_rates(of, POLICY))
        assert found is not None
        scores.append((found.ratio - 1) / found.variance(1.0) ** 0.5)
    assert 0.75 < np.std(scores) < 1.25
    assert abs(np.mean(scores)) < 0.35


@pytest.mark.parametrize(("effect", "harmless"), [(1.0, True), (4.0, False)])
def test_harmlessness_is_shown_only_of_the_harmless(effect: float, harmless: bool) -> None:
    of = table(23, days=14, effect=Effect(complaints=effect))
    found = compare(of, baseline.complaint_rates(of, POLICY))
    assert found is not None
    assert (found.log_e_noninferior(2.0) >= LOG_20) is harmless


def test_a_margin_of_one_or_less_is_refused() -> None:
    found = compare(table(23), np.ones(2300))
    assert found is not None
    with pytest.raises(ValueError, match="ratio above 1"):
        found.log_e_noninferior(1.0)


def test_the_split_between_the_arms_by_hand() -> None:
    """Two canaries, four controls, so x = 1/2. Day 0: one complaint of each arm; day 1: two of controls. L(R) is
    R / (1 + R/2)^4, and c is 0: [L(2) / L(1)] = 2 (1.5 / 2)^4, and the other way round for harmlessness."""
    arms = [Arm.CANARY] * 2 + [Arm.CONTROL] * 4
    found = compare(small([(0, 0), (2, 0), (3, 1), (4, 1)], arms), np.ones(6))
    assert found is not None
    assert found.overdispersion == 0.0
    expected = math.log(2 * 0.75**4)
    assert found.log_e_harm((2.0,)) == pytest.approx(expected, rel=1e-6)
    assert found.log_e_noninferior(2.0) == pytest.approx(-expected, rel=1e-6)
    mean = math.log((2 * 0.75**4 + 4 * 0.5**4) / 2)
    assert found.log_e_harm((2.0, 4.0)) == pytest.approx(mean, rel=1e-6)


def test_bursts_count_for_less() -> None:
    """The same complaints of controls from fewer households: the same ratio, and less to be said of it."""
    arms = [Arm.CANARY] * 20 + [Arm.CONTROL] * 60
    ours = [(frame, 0) for frame in range(8)]
    many = compare(small([*ours, *((20 + i, i % 8) for i in range(12))], arms, days=8), np.ones(80))
    few = compare(small([*ours, *((20 + i // 2, i % 8) for i in range(12))], arms, days=8), np.ones(80))
    assert many is not None
    assert few is not None
    assert few.ratio == many.ratio
    assert few.overdispersion > many.overdispersion
    assert 0 < few.log_e_harm((2.0,)) < many.log_e_harm((2.0,))


def test_a_harmless_release_is_seldom_called_harmful_and_one_on_the_margin_seldom_harmless() -> None:
    """At the end of eight days; in rollouts, ``make bench-canary`` measures both under peeking."""
    harmful, harmless = [], []
    for seed in range(60):
        of = table(seed, frames=1500, days=8)
        found = compare(of, baseline.complaint_rates(of, POLICY))
        assert found is not None
        harmful.append(found.log_e_harm(POLICY.hazard_ratios))
        of = table(seed, frames=1500, days=8, effect=Effect(complaints=2.0))
        found = compare(of, baseline.complaint_rates(of, POLICY))
        assert found is not None
        harmless.append(found.log_e_noninferior(2.0))
    assert np.mean(np.array(harmful) >= LOG_20) <= 0.05
    assert np.mean(np.array(harmless) >= LOG_20) <= 0.05
    assert np.median(harmless) < 0


def test_complaints_of_a_control_that_left_are_not_counted_without_its_time() -> None:
    arms = [Arm.CANARY] * 2 + [Arm.CONTROL] * 4
    of = small([(0, 0), (2, 0), (3, 1)], arms, days=2)
    stayed = compare(of, np.ones(6))
    left = replace(of.frames, left_h=np.array([np.inf, np.inf, np.inf, 26.0, 26.0, 26.0]))
    gone = compare(build(left, of.days, of.now_h), np.ones(6))
    assert stayed is not None
    assert gone is not None
    assert (stayed.control_seen, gone.control_seen) == (2.0, 1.0)
    assert gone.expected == pytest.approx(0.5), "what controls complained of on the first day, two of four"
