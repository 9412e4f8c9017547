"""Rare events: by hand, by simulation, and what must not matter."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.domain.analysis.logrank import first_dark, logrank, risk_strata
from ota.domain.analysis.policy import Policy

INF = math.inf
POLICY = Policy()


def run(event: list[float], exposed: list[float], theta: tuple[float, ...] = (2.0,), **other: list[float]) -> float:
    frames = len(event)
    return logrank(
        np.array(event),
        np.array(other.get("entered", [0.0] * frames)),
        np.array(exposed),
        np.array(other.get("end", [100.0] * frames)),
        np.array(other.get("stratum", [0] * frames)),
        theta,
    ).log_e


def test_two_events_by_hand() -> None:
    """Four frames, two exposed. At 5 h an exposed one is hit: 2 / ((2*2 + 2) / 4) = 4/3. At 9 h an unexposed one of the
    three left: 1 / ((2*1 + 2) / 3) = 3/4. Together 1."""
    assert run([5.0, INF, 9.0, INF], [0.0, 0.0, INF, INF]) == pytest.approx(math.log(4 / 3 * 3 / 4), abs=1e-14)


def test_hazard_ratios_are_averaged_not_their_logs() -> None:
    """One exposed of two is hit: 2 / (3/2) = 4/3 for theta = 2, 5 / 3 for theta = 5."""
    found = run([5.0, INF], [0.0, INF], (2.0, 5.0))
    assert found == pytest.approx(math.log((4 / 3 + 5 / 3) / 2), abs=1e-14)


def test_strata_multiply() -> None:
    one = run([5.0, INF], [0.0, INF])
    assert run([5.0, INF, 6.0, INF], [0.0, INF, 0.0, INF], stratum=[0, 0, 1, 1]) == pytest.approx(2 * one, abs=1e-14)


def test_frames_hit_together_share_a_risk_set() -> None:
    """Two of four at once, both exposed: 2^2 / (6/4)^2 = 16/9."""
    assert run([5.0, 5.0, INF, INF], [0.0, 0.0, INF, INF]) == pytest.approx(math.log(16 / 9), abs=1e-14)


def test_before_its_offer_a_frame_is_unexposed() -> None:
    """Hit at 5 h, offered at 8 h: of two at risk none is exposed, which says nothing."""
    assert run([5.0, INF], [8.0, INF]) == 0.0


def test_late_joiners_and_leavers_are_at_risk_only_while_they_are_there() -> None:
    """At 5 h only the two first frames are there."""
    hit = [5.0, INF, INF, INF]
    found = run(hit, [0.0, INF, 0.0, INF], entered=[0, 0, 6, 0], end=[100, 100, 100, 4])
    assert found == pytest.approx(run(hit[:2], [0.0, INF]), abs=1e-14)


def test_without_events_there_is_no_evidence() -> None:
    assert run([INF, INF], [0.0, INF]) == 0.0


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans(), st.integers(0, 2)), min_size=1, max_size=30), st.randoms())
def test_the_order_of_frames_does_not_matter(frames: list[tuple[int, bool, int]], random: object) -> None:
    shuffled = list(frames)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def value(rows: list[tuple[int, bool, int]]) -> float:
        times = [float(t) if t < 80 else INF for t, _, _ in rows]
        stratum = [float(s) for _, _, s in rows]
        return run(times, [0.0 if e else INF for _, e, _ in rows], POLICY.hazard_ratios, stratum=stratum)

    assert value(frames) == pytest.approx(value(shuffled), abs=1e-9)


def test_a_harmless_release_has_evidence_of_one_on_average() -> None:
    """2,000 fleets of 60 frames, half exposed, a third of them hit: the mean of E is 1 but for chance; every E at the
    end of the trial reaches 20 in at most 5 %."""
    random = np.random.default_rng(3)
    exposed = np.where(np.arange(60) < 30, 0.0, INF)
    zero, end, alike = np.zeros(60), np.full(60, 33.0), np.zeros(60, dtype=np.int64)
    logs = []
    for _ in range(2000):
        event = random.random(60) * 100
        logs.append(logrank(event, zero, exposed, end, alike, POLICY.hazard_ratios).log_e)
    values = np.exp(logs)
    assert abs(values.mean() - 1) < 4 * values.std() / math.sqrt(len(values))
    assert (values >= 20).mean() <= 0.05


def test_a_threefold_rate_is_found() -> None:
    random = np.random.default_rng(4)
    canary = np.arange(2000) < 500
    event = random.exponential(np.where(canary, 1000.0, 3000.0))
    found = logrank(
        event,
        np.zeros(2000),
        np.where(canary, 0.0, INF),
        np.full(2000, 200.0),
        np.zeros(2000, dtype=np.int64),
        POLICY.hazard_ratios,
    )
    assert found.log_e > math.log(1000)
    assert found.exposed == int((event[canary] <= 200).sum())


def test_households_that_always_complain_are_a_stratum_of_their_own() -> None:
    rates = np.concatenate([np.full(50, 0.01), np.linspace(0.02, 0.03, 40), np.full(10, 0.5)])
    strata = risk_strata(rates, POLICY)
    assert set(strata[:50]) == {0}
    assert set(strata[-10:]) == {3}


def test_silence_for_a_day_is_dark_and_stays_so() -> None:
    contacts, known = np.array([-5.0, 30.0, 90.0]), np.array([INF, INF, 40.0])
    assert first_dark(contacts, known, 60.0, POLICY).tolist() == [24.0, 54.0, 40.0]
    assert first_dark(contacts, known, 50.0, POLICY).tolist() == [24.0, INF, 40.0]
