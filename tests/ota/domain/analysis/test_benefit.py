"""Did the fix fix it: intervals at all times together, for completion and for complaints."""

from dataclasses import replace

import numpy as np
import pytest

from ota.domain.analysis.benefit import Benefit, benefits, interval, shown
from ota.domain.analysis.complaints import Complaints
from ota.domain.analysis.policy import COMPLAINT, COMPLETION
from ota.domain.analysis.restrict import restrict
from ota.domain.analysis.table import Table, take
from tests.ota.domain.analysis.people import POLICY, Effect, table


def at_day(of: Table, day: int) -> Table:
    return replace(of, days=take(of.days, of.days.day <= day), now_h=day * 24.0 + 23.5)


def missed(effect: Effect, share: float, frames: int, runs: int) -> dict[str, int]:
    """In how many fleets the interval leaves out the truth on any of ten days."""
    truth = {COMPLETION: effect.completion, COMPLAINT: effect.complaints}
    found = dict.fromkeys(truth, 0)
    for seed in range(runs):
        whole = table(seed + 700, frames, 10, share, effect)
        out = set()
        for day in range(0, 10, 2):
            for benefit in benefits(at_day(whole, day), POLICY):
                too_high = benefit.low is not None and benefit.low > truth[benefit.metric]
                if too_high or (benefit.high is not None and benefit.high < truth[benefit.metric]):
                    out.add(benefit.metric)
        for name in out:
            found[name] += 1
    return found


@pytest.mark.parametrize(
    ("effect", "share", "frames"),
    [
        (Effect(completion=0.06, complaints=0.3), 0.25, 400),
        (Effect(), 0.95, 900),  # the holdback as control
    ],
)
def test_the_truth_is_covered_at_every_look(effect: Effect, share: float, frames: int) -> None:
    """Of 60 runs at most 3 are expected to miss it ever; 8 or more have a chance of 1 %."""
    found = missed(effect, share, frames, 60)
    assert max(found.values()) <= 7, found


def test_a_fix_is_shown_where_it_hurt() -> None:
    of = table(12, frames=1200, days=14, effect=Effect(completion=0.06, complaints=0.25))
    completion, complaint = benefits(of, POLICY)
    assert completion.better is True
    assert complaint.better is True
    assert shown(completion, 0.03)
    assert not shown(completion, 0.07)
    assert shown(complaint, 0.8)
    assert not shown(complaint, 0.1)
    assert completion.low is not None
    assert completion.low < 0.06 < (completion.high or 0)


def test_harm_is_no_benefit() -> None:
    completion, complaint = benefits(table(13, days=14, effect=Effect(completion=-0.05, complaints=3.0)), POLICY)
    assert (completion.better, complaint.better) == (False, False)
    assert not shown(completion, 0.0)
    assert not shown(complaint, 1.0)


def test_too_little_says_nothing() -> None:
    of = table(14, frames=300, days=3)
    few = restrict(of, np.arange(300) < 20)
    assert [(b.low, b.high, b.better) for b in benefits(few, POLICY)] == [(None, None, None)] * 2
    held = restrict(table(15, frames=400, days=10, share=0.95), np.ones(400, dtype=bool))
    assert benefits(held, POLICY)[0].better is None, "twenty held-back frames are too few for a variance"
    assert not shown(Benefit(COMPLETION, None, None, None, None), 0.0)


def test_no_complaint_at_all_still_has_an_interval() -> None:
    """30 expected, none seen, many controls: well below 1, and wider with fewer expected."""
    none = Complaints(0.0, 0.0, 30.0, 1.0, 12.0, 4.0, 200.0)
    low, high = interval(none, POLICY)
    assert low == 0.0
    assert high is not None
    assert 0.1 < high < 1.0
    fewer = interval(replace(none, expected=10.0, expected_squared=4.0), POLICY)[1]
    assert fewer is None or fewer > high
    assert interval(replace(none, expected=2.9), POLICY) == (0.0, None)


def test_few_complaints_of_controls_do_not_make_a_release_worse() -> None:
    """19 canaries to 1 control, 40 complaints to 1 where 2 were due: by the controls alone, twice as many."""
    found = Complaints(40 / 19, 40.0, 19.0, 0.0, 0.2, 19.0**2, 1.0)
    low, high = interval(found, POLICY)
    assert low < 1.0
    assert high is None or high > 2.0


def test_a_gate_is_asked_in_its_own_unit() -> None:
    complaint = Benefit(COMPLAINT, 0.3, 0.1, 0.5, True)
    with pytest.raises(ValueError, match="ratio above 0"):
        shown(complaint, 2.0)
    with pytest.raises(ValueError, match="fraction"):
        shown(Benefit(COMPLETION, 0.1, 0.05, 0.2, True), 1.0)
    with pytest.raises(ValueError, match="No benefit is known"):
        shown(Benefit("power", 0.1, 0.05, 0.2, True), 0.0)
