"""Other systems' rules, on sums made by hand."""

import numpy as np
import pytest

from benchmarks.canary.peers import METHODS, METRICS, Method, Seen, Series, Side
from ota.domain.analysis.policy import COMPLAINT, COMPLETION, POWER


def side(frames: int, completion: float, watts: float, complaints: float, seed: int) -> Side:
    """Frames of 20 playbacks each, all alike but for chance."""
    random = np.random.default_rng(seed)
    n = np.full(frames, 20.0)
    sums = {
        COMPLETION: random.binomial(20, completion, frames).astype(np.float64),
        POWER: random.normal(watts, 0.05, frames) * n,
        COMPLAINT: random.binomial(20, complaints, frames).astype(np.float64),
    }
    squares = {
        COMPLETION: sums[COMPLETION].sum(),
        COMPLAINT: sums[COMPLAINT].sum(),
        POWER: (sums[POWER] ** 2 / n).sum(),
    }
    return Side(n, sums, {name: float(value) for name, value in squares.items()})


def seen(completion: float = 0.78, watts: float = 4.8, complaints: float = 0.02) -> Seen:
    series = Series()
    random = np.random.default_rng(5)
    means = {COMPLETION: (completion, 0.78, 0.01), POWER: (watts, 4.8, 0.02), COMPLAINT: (complaints, 0.02, 0.002)}
    for name in METRICS:
        ours, theirs, noise = means[name]
        series.canary[name] = random.normal(ours, noise, 40).tolist()
        series.control[name] = random.normal(theirs, noise, 40).tolist()
    return Seen(side(200, completion, watts, complaints, 1), side(2000, 0.78, 4.8, 0.02, 2), series)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_sees_clear_harm_and_not_its_opposite(name: str) -> None:
    method, _, level = METHODS[name]
    for harmful in (seen(completion=0.6), seen(watts=5.2), seen(complaints=0.08)):
        assert method(harmful, level)
    assert not method(seen(completion=0.85, watts=4.6, complaints=0.01), level)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "threshold"])
def test_a_smaller_alpha_asks_for_more(name: str) -> None:
    method, levels, _ = METHODS[name]
    some = seen(completion=0.77, watts=4.805, complaints=0.022)
    answers = [method(some, level) for level in sorted(levels)]
    assert answers == sorted(answers)


def test_frames_that_differ_make_the_clustered_variance_larger() -> None:
    alike, apart = side(500, 0.5, 4.8, 0.02, 3), side(500, 0.5, 4.8, 0.02, 3)
    apart.sums[COMPLETION][:] = np.where(np.arange(500) % 2, 20.0, 0.0)
    assert apart.variance_frames(COMPLETION) > 10 * apart.variance_playbacks(COMPLETION)
    assert alike.variance_frames(COMPLETION) == pytest.approx(alike.variance_playbacks(COMPLETION), rel=0.25)


def _is_a_method(of: Method) -> bool:
    return callable(of)


def test_levels_hold_the_usual_one() -> None:
    assert all(level in levels and _is_a_method(method) for method, levels, level in METHODS.values())
