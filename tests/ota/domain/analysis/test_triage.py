"""Segments by excess complaints: level, false discoveries, intervals, and what is too small to say anything about."""

import time

import numpy as np
import pytest
from scipy.stats import pearson3  # type: ignore[import-untyped]

from ota.domain.analysis.table import FloatArray
from ota.domain.analysis.triage import Segment, SegmentExcess, crossed, pearson_tail, rank, yekutieli
from tests.ota.domain.analysis.people import POLICY

DAYS = 28


def fleet(
    random: np.random.Generator, frames: int, times: FloatArray | float = 1.0, frailty: float = 2.0, burst: float = 2.0
) -> tuple[FloatArray, FloatArray]:
    """Complaint-days and playbacks of 28 days: incidents at 0.3 % of playbacks, frames' rates gamma distributed with
    variance ``frailty``, each incident bringing ``burst`` complaints on average."""
    playbacks = random.poisson(random.gamma(2.0, 2.5, frames) * DAYS).astype(np.float64)
    rate = 0.003 * random.gamma(1 / frailty, frailty, frames) * times
    incidents = random.poisson(rate * playbacks)
    more = np.zeros(frames)
    more[incidents > 0] = random.negative_binomial(incidents[incidents > 0], 1 / burst)
    return np.minimum(incidents + more, DAYS), playbacks


def drawn(random: np.random.Generator, frames: int, shares: list[float]) -> list[Segment]:
    return [Segment("drawn", str(i), np.flatnonzero(random.random(frames) < share)) for i, share in enumerate(shares)]


def only(rows: tuple[SegmentExcess, ...], value: str) -> SegmentExcess:
    return next(row for row in rows if row.value == value)


@pytest.mark.parametrize(("frailty", "burst"), [(2.0, 2.0), (4.0, 4.0)])
def test_segments_that_mean_nothing_are_found_by_chance_alone(frailty: float, burst: float) -> None:
    """Small, large and nearly everybody: 5 % of p-values are below 5 %, and an end of the interval at 95 % excludes 1
    as seldom. Of 7 x 120 p-values, 7 % or more below 5 % would have a chance of 1 %."""
    p, outside = [], 0
    for seed in range(120):
        random = np.random.default_rng(seed)
        complaints, playbacks = fleet(random, 1500, frailty=frailty, burst=burst)
        rows = rank(drawn(random, 1500, [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9]), complaints, playbacks, POLICY)
        p += [row.p_value for row in rows]
        outside += sum(row.low > 1 or (row.high is not None and row.high < 1) for row in rows)
    assert len(p) > 700
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07
    assert np.mean(np.array(p) < 0.01) < 0.02
    assert 0.02 < outside / len(p) < 0.07


def test_a_segment_that_suffers_comes_first_and_others_are_seldom_notable() -> None:
    """A tenth of the fleet at 2.9 times the rate, told twice, among 40 segments drawn at random."""
    first = covered = false = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        suffers = random.random(2300) < 0.1
        complaints, playbacks = fleet(random, 2300, np.where(suffers, 2.9, 1.0))
        told = [Segment("locale", "zh", np.flatnonzero(suffers)), Segment("locale", "en", np.flatnonzero(~suffers))]
        rows = rank(told + drawn(random, 2300, [0.05, 0.1, 0.2, 0.4] * 10), complaints, playbacks, POLICY)
        row = rows[0]
        first += row.value == "zh" and row.notable
        covered += row.low < 2.9 < (row.high or np.inf)
        false += sum(row.notable for row in rows) > 1
        assert not only(rows, "en").notable
    assert first == 40
    assert covered >= 34
    assert false <= 5


def test_the_p_value_is_that_of_frames_drawn_at_random() -> None:
    """Against 20,000 segments of the same size drawn within the groups, here one: all frames play equally often."""
    random = np.random.default_rng(6)
    complaints, playbacks = fleet(random, 300)[0], np.full(300, 140.0)
    worst = np.argsort(-complaints, kind="stable")
    member = np.concatenate([worst[:3], random.choice(worst[3:], 47, replace=False)])
    (row,) = rank([Segment("k", "v", member)], complaints, playbacks, POLICY)
    sums = np.array([complaints[random.permutation(300)[:50]].sum() for _ in range(20_000)])
    exact = float((sums >= complaints[member].sum()).mean())
    assert 0.0005 < exact < 0.05
    assert row.p_value == pytest.approx(exact, rel=0.25)


def test_a_ratio_by_hand() -> None:
    """40 frames with 30 complaint-days in 400 playbacks, 160 with 40 in 1,600."""
    complaints, playbacks = np.zeros(200), np.full(200, 10.0)
    complaints[:30] = 1
    complaints[40:80] = 1
    (row,) = rank([Segment("pose", "profile", np.arange(40))], complaints, playbacks, POLICY)
    assert (row.frames, row.playbacks, row.complaints) == (40, 400, 30)
    assert (row.rate, row.rest_rate, row.ratio) == pytest.approx((0.075, 0.025, 3.0))
    assert 1 < row.low < 3 < (row.high or 0)
    assert row.notable


def test_what_is_too_small_is_left_out() -> None:
    random = np.random.default_rng(8)
    complaints, playbacks = fleet(random, 500)
    sizes = {"few": 19, "enough": 100, "nearly all": 490}
    segments = [Segment("size", name, np.arange(size)) for name, size in sizes.items()]
    assert [row.value for row in rank(segments, complaints, playbacks, POLICY)] == ["enough"]
    assert rank(segments, np.zeros(500), playbacks, POLICY) == ()
    assert rank(segments, complaints * 0, playbacks * 0, POLICY) == ()
    assert rank([], complaints, playbacks, POLICY) == ()


def test_frames_that_did_not_play_are_nobodys() -> None:
    random = np.random.default_rng(9)
    complaints, playbacks = fleet(random, 400)
    silent = np.concatenate([playbacks, np.zeros(100)])
    quiet = np.concatenate([complaints, np.zeros(100)])
    segment = Segment("k", "v", np.concatenate([np.arange(120), np.arange(400, 450)]))
    assert rank([segment], quiet, silent, POLICY) == rank(
        [Segment("k", "v", np.arange(120))], complaints, playbacks, POLICY
    )


def test_two_conditions_make_a_segment() -> None:
    """Only the loud among those who speak Mandarin suffer; each condition alone shows a part of it."""
    random = np.random.default_rng(10)
    mandarin, loud = random.random(3000) < 0.3, random.random(3000) < 0.3
    complaints, playbacks = fleet(random, 3000, np.where(mandarin & loud, 4.0, 1.0))
    segments = [
        Segment("locale", "zh", np.flatnonzero(mandarin)),
        Segment("loudness", "loud", np.flatnonzero(loud)),
        Segment("loudness", "quiet", np.arange(15)),
    ]
    both = crossed(segments, "locale", "loudness", POLICY)
    assert [(segment.key, segment.value) for segment in both] == [("locale & loudness", "zh & loud")]
    rows = rank([*segments, *both], complaints, playbacks, POLICY)
    assert rows[0].value == "zh & loud"
    assert rows[0].ratio > only(rows, "zh").ratio > 1.3


def test_a_hundred_thousand_frames_and_fifty_segments_take_seconds_at_most() -> None:
    random = np.random.default_rng(11)
    complaints, playbacks = fleet(random, 100_000)
    segments = drawn(random, 100_000, [0.2] * 50)
    began = time.perf_counter()
    assert len(rank(segments, complaints, playbacks, POLICY)) == 50
    assert time.perf_counter() - began < 2.0


def test_the_correction_by_hand() -> None:
    """Three p-values: 1 + 1/2 + 1/3 = 11/6; times 3, over the rank."""
    np.testing.assert_allclose(yekutieli(np.array([0.02, 0.001, 0.5])), [0.055, 0.0055, 0.5 * 11 / 6])
    assert yekutieli(np.array([0.9, 0.8])).max() == 1.0


@pytest.mark.parametrize("skew", [-1.5, -0.3, 1e-3, 0.3, 2.0])
def test_the_tail_is_pearsons(skew: float) -> None:
    z = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 6.0])
    expected = pearson3.sf(z, skew)
    np.testing.assert_allclose(pearson_tail(z, np.full(6, skew)), expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(pearson_tail(z, np.full(6, skew), upper=False), 1 - expected, rtol=1e-5, atol=1e-9)


def test_nonsense_is_refused() -> None:
    one = np.ones(50)
    with pytest.raises(ValueError, match="same length"):
        rank([], one, np.ones(49), POLICY)
    with pytest.raises(ValueError, match="leave out"):
        rank([], one * np.nan, one, POLICY)
    with pytest.raises(ValueError, match="below 0"):
        rank([], -one, one, POLICY)
    with pytest.raises(ValueError, match="not there"):
        rank([Segment("a", "b", np.array([50]))], one, one, POLICY)
    with pytest.raises(ValueError, match="twice"):
        rank([Segment("a", "b", np.array([1, 1]))], one, one, POLICY)
