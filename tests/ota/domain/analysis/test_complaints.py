"""Complaint non-inferiority: by hand, against simulation, and what must not matter."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ota.domain.analysis import baseline
from ota.domain.analysis.complaints import Complaints, compare
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
    evidence = found.log_e_noninferior(2.0, POLICY)
    assert evidence is not None
    assert (evidence >= LOG_20) is harmless


def test_too_little_to_be_expected_says_nothing() -> None:
    little = Complaints(0.0, 0.0, 2.9, 0.0, 0.1, 0.1, 10.0)
    assert little.log_e_noninferior(2.0, POLICY) is None
    with pytest.raises(ValueError, match="ratio above 1"):
        little.log_e_noninferior(1.0, POLICY)
