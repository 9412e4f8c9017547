"""The sample-ratio check and minimum exposure."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad  # type: ignore[import-untyped]

from ota.domain.analysis.exposure import exposure
from ota.domain.analysis.ratio import log_e_ratio, worst_stratum
from ota.domain.analysis.table import Arm, Days, build, take
from tests.ota.domain.analysis.people import POLICY, Effect, fleet, table

STRENGTH = POLICY.ratio_strength
LIMIT = math.log(POLICY.ratio_evidence)


def test_with_a_uniform_prior_it_is_a_fraction_of_factorials() -> None:
    """Strength 2 at one half: integral of q^3 (1-q) is 3! 1! / 5! = 1/20; under one half, 1/16. E = 16/20."""
    assert float(log_e_ratio(3, 1, 0.5, 2.0)) == pytest.approx(math.log(0.8), abs=1e-14)


def test_it_is_the_average_likelihood_over_the_prior() -> None:
    a, b, p = 20, 50, 0.25

    def integrand(q: float) -> float:
        x, y = STRENGTH * p, STRENGTH * (1 - p)
        density = math.lgamma(x + y) - math.lgamma(x) - math.lgamma(y)
        density += (x - 1) * math.log(q) + (y - 1) * math.log1p(-q)
        return math.exp(density + a * math.log(q / p) + b * math.log((1 - q) / (1 - p)))

    value = quad(integrand, 0, 1, epsabs=0, epsrel=1e-12, points=[0.26])[0]
    assert math.exp(float(log_e_ratio(a, b, p, STRENGTH))) == pytest.approx(value, rel=1e-10)


@given(a=st.integers(0, 5000), b=st.integers(0, 5000), share=st.floats(0.01, 0.99))
def test_it_is_symmetric_in_its_arms(a: int, b: int, share: float) -> None:
    other = float(log_e_ratio(b, a, 1 - share, STRENGTH))
    assert float(log_e_ratio(a, b, share, STRENGTH)) == pytest.approx(other, abs=1e-6)


def test_a_fair_assignment_is_never_stopped_however_often_one_looks() -> None:
    """1,000 fleets of 2,000 frames, looked at after each frame."""
    canary = np.random.default_rng(1).random((1000, 2000)) < 0.25
    a = canary.cumsum(axis=1)
    reached = log_e_ratio(a, np.arange(1, 2001) - a, 0.25, STRENGTH).max(axis=1) >= LIMIT
    assert reached.mean() <= 0.003


def test_swapped_arms_and_a_lost_part_of_one_arm_are_found() -> None:
    frames = table(1).frames
    assert worst_stratum(frames, 0.25, POLICY) < LIMIT
    swapped = replace(frames, arm=1 - frames.arm)
    assert worst_stratum(swapped, 0.25, POLICY) > LIMIT
    lost = (frames.arm == Arm.CANARY) & (np.random.default_rng(2).random(len(frames)) < 0.4)
    assert worst_stratum(replace(frames, arm=np.where(lost, int(Arm.NEITHER), frames.arm)), 0.25, POLICY) > LIMIT


def test_when_everybody_is_meant_one_left_out_is_enough() -> None:
    assert log_e_ratio([5, 5], [0, 1], 1.0, STRENGTH).tolist() == [0.0, math.inf]
    with pytest.raises(ValueError, match="between 0 and 1"):
        log_e_ratio(1, 1, 1.5, STRENGTH)


def first_rows(days: Days, count: int) -> Days:
    return take(days, np.arange(len(days)) < count)


def test_playbacks_count_only_under_the_release() -> None:
    works, stays = exposure(table(3), POLICY), exposure(table(3, effect=Effect(works=False)), POLICY)
    assert works.enough
    assert works.canaries == stays.canaries
    assert (stays.playbacks, stays.frames, stays.enough) == (0, 0, False)


def test_few_canaries_need_less_but_most_of_them() -> None:
    frames, days = fleet(4, frames=60, days=4, share=0.1)
    seen = exposure(build(frames, days, 95.0), POLICY)
    assert seen.frames_needed == math.ceil(0.8 * seen.canaries) < 20
    assert not exposure(build(frames, first_rows(days, 0), 95.0), POLICY).enough


def test_controls_that_play_the_release_are_seen() -> None:
    frames, days = fleet(5, frames=400, days=4)
    swapped = build(replace(frames, arm=1 - frames.arm, offered_h=np.zeros(400)), days, 95.0)
    assert exposure(swapped, POLICY).control_share > 0.9
    assert exposure(build(frames, days, 95.0), POLICY).control_share == 0.0
