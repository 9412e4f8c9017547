"""Bounds, medians, gates and the picture."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.canary import frontier, picture
from benchmarks.canary.figures import ends, headline, lower_bound, quantile, upper_bound
from benchmarks.canary.peers import ALPHAS, METHODS, OURS
from benchmarks.canary.scenarios import BY_NAME, SCENARIOS
from benchmarks.canary.staged import Result
from ota.domain.analysis.verdict import Decision

BACK = Result(Decision.ROLLBACK, 60.0, (0.0, 24.0), None, ("completion",))
ON = Result(Decision.PROMOTE, 200.0, (0.0, 24.0, 100.0), 200.0, ())
LATE = Result(Decision.ROLLBACK, 300.0, (0.0, 24.0, 100.0, 200.0), 200.0, ("power",))
"""Rolled back while it was watched against the holdback."""
OPEN = Result(Decision.HOLD, 672.0, (0.0, 24.0), None, ())


def test_bounds_are_clopper_and_pearsons() -> None:
    """No hit of n: 1 - 0.05^(1/n). 20 of 2000 from tables."""
    assert upper_bound(0, 150) == pytest.approx(1 - 0.05 ** (1 / 150))
    assert upper_bound(20, 2000) == pytest.approx(0.0145, abs=5e-4)
    assert upper_bound(5, 5) == 1.0
    assert lower_bound(5, 5) == pytest.approx(0.05**0.2)


def test_ends_are_counted() -> None:
    found = ends([BACK, BACK, ON, OPEN])
    assert (found.runs, found.rolled_back, found.promoted) == (4, 2, 1)
    assert found.blamed == {"completion": 2}
    assert found.opened_h == (0.0, 24.0, 100.0)
    summary = found.summary()
    assert (summary["rollback_median_h"], summary["promote_median_h"]) == (60.0, 200.0)
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.9) == 4.0


def test_a_rollback_after_everybody_had_the_release_is_a_rollback_and_was_a_promotion() -> None:
    found = ends([LATE, ON, BACK])
    assert (found.rolled_back, found.rolled_back_late, found.promoted) == (2, 1, 2)


def test_a_harmful_release_that_is_promoted_is_counted_whatever_the_scenario() -> None:
    found = {scenario.name: ends([BACK, ON] if scenario.harmful else [BACK]) for scenario in SCENARIOS}
    figures = headline(found)
    assert figures["harmful_promoted"] == sum(scenario.harmful for scenario in SCENARIOS)
    assert figures["completion_rolled_back"] == 0.5
    assert figures["good_median_h"] is None


def test_enough_rollouts_are_planned() -> None:
    assert BY_NAME["no_effect"].runs >= 2000
    assert BY_NAME["harder"].runs >= 600
    assert all(scenario.runs >= 150 for scenario in SCENARIOS if scenario.harmful)
    assert all(scenario.runs >= 300 for scenario in SCENARIOS if scenario.margin)


def test_what_is_not_detected_is_never_and_not_left_out() -> None:
    assert frontier.detection([24.0, 48.0, math.inf]) == {"detected": 0.66667, "median_h": 48.0}
    assert frontier.detection([24.0, math.inf, math.inf])["median_h"] is None


def test_the_picture_shows_every_method() -> None:
    run = dict.fromkeys(ALPHAS, 48.0)
    never = dict.fromkeys(ALPHAS, math.inf)
    ours = frontier.staged_lines({"no_effect": [run, never], **{harm: [run] for harm in frontier.HARMS}})
    fleets = [{OURS: run, **{name: dict.fromkeys(levels, 48.0) for name, (_, levels, _) in METHODS.items()}}]
    lines = frontier.peer_lines({"no_effect": fleets, **dict.fromkeys(frontier.HARMS, fleets)})
    assert ours[0]["false_rollback"] == 0.5
    drawn = picture.draw(ours, lines, 0.05)
    ElementTree.fromstring(drawn)  # noqa: S314
    assert drawn.count("<polyline") == len(frontier.HARMS) + len(METHODS) + 1
    assert set(frontier.usual(lines, 0.05)) == {OURS, *METHODS}
