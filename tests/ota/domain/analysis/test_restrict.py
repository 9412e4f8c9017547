"""Tables of some frames only, and with the holdback as the control."""

from dataclasses import replace

import numpy as np
import pytest

from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import STAGES
from ota.domain.analysis.restrict import against_holdback, restrict
from ota.domain.analysis.table import Arm, build
from tests.ota.domain.analysis.people import POLICY, Effect, fleet, table

STAGE = STAGES[2]


def test_a_part_is_what_it_would_be_if_nobody_else_existed() -> None:
    """Building the table of every third frame from rows gives the same evidence as restricting the whole table."""
    frames, days = fleet(3, frames=600, days=5)
    member = np.arange(600) % 3 == 0
    part = restrict(build(frames, days, 119.5), member)
    assert len(part.frames) == 200
    assert part.days.playbacks.sum() == days.playbacks[member[days.frame]].sum()
    again = build(part.frames, part.days, 119.5)
    assert evaluate(part, STAGE, 0.0, POLICY) == evaluate(again, STAGE, 0.0, POLICY)
    third = np.flatnonzero(member)
    np.testing.assert_array_equal(part.frames.arm, frames.arm[third])
    rows = np.flatnonzero(days.frame == third[17])
    np.testing.assert_array_equal(part.days.playbacks[part.days.frame == 17], days.playbacks[rows])


def test_everybody_is_the_same_table_and_nobody_an_empty_one() -> None:
    of = table(4, frames=300, days=3)
    whole = restrict(of, np.ones(300, dtype=bool))
    assert evaluate(whole, STAGE, 0.0, POLICY) == evaluate(of, STAGE, 0.0, POLICY)
    nobody = restrict(of, np.zeros(300, dtype=bool))
    assert (len(nobody.frames), len(nobody.days)) == (0, 0)
    assert not evaluate(nobody, STAGE, 0.0, POLICY).exposure.enough


def test_harm_in_a_segment_is_found_there() -> None:
    """Power rises in the segment only: its table says by how much, the others' that nothing happened."""
    of = table(5, frames=1500, days=6)
    member = np.arange(1500) % 4 == 0
    touched = (member & (of.frames.arm == Arm.CANARY))[of.days.frame]
    sums = of.days.sums["power"]
    worse = replace(sums, total=sums.total + 0.2 * sums.count * touched)
    of = replace(of, days=replace(of.days, sums={**of.days.sums, "power": worse}))

    def power(part: np.ndarray) -> float:
        found = {metric.name: metric for metric in evaluate(restrict(of, part), STAGE, 0.0, POLICY).metrics}
        return found["power"].estimate or 0.0

    assert power(member) == pytest.approx(0.2, abs=0.03)
    assert power(~member) == pytest.approx(0.0, abs=0.03)


def test_the_holdback_becomes_the_control() -> None:
    """Former controls were offered the release on day 2; from then on they are canaries."""
    of = table(6, frames=400, days=6, effect=Effect(power=0.2))
    held = (np.arange(400) % 5 == 0) & (of.frames.arm == Arm.CONTROL)
    offered = np.where(held, np.inf, np.where(of.frames.arm == Arm.CANARY, 0.0, 48.0))
    watched = against_holdback(of, held, offered)
    assert (watched.frames.arm == Arm.CONTROL).sum() == held.sum()
    assert (watched.start_h()[~held & (of.frames.arm == Arm.CONTROL)] == 48.0).all()
    assert (watched.frames.arm == Arm.NEITHER).sum() == 0


def test_nonsense_is_refused() -> None:
    of = table(7, frames=50, days=1)
    with pytest.raises(ValueError, match="one true or false"):
        restrict(of, np.ones(49, dtype=bool))
    with pytest.raises(ValueError, match="one true or false"):
        restrict(of, np.arange(50))  # type: ignore[arg-type]
    held = np.zeros(50, dtype=bool)
    with pytest.raises(ValueError, match="every frame"):
        against_holdback(of, held, np.zeros(49))
    held[3] = True
    with pytest.raises(ValueError, match="not held back"):
        against_holdback(of, held, np.zeros(50))
