from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device_agent.pipeline.acting import CLOSED, NOTICE_STEPS, STILL, Acting, Pose
from tests.device_agent.portrait import pose

OPEN = pose(open=12, jaw=9, width=4)


def acted(speech: list[bool], notice: int = NOTICE_STEPS) -> list[Pose]:
    acting = Acting()
    return [acting.pose(OPEN, speech[index : index + notice + 1]) for index in range(len(speech))]


def test_lips_follow_the_motion_while_somebody_speaks() -> None:
    poses = acted([True] * 40)
    assert all(np.array_equal(each.motion, OPEN) for each in poses)
    assert all(each.sway == STILL for each in poses)


def test_lips_close_and_the_head_sways_in_silence() -> None:
    poses = acted([False] * 200)
    assert all(np.array_equal(each.motion, CLOSED) for each in poses)
    assert 0.7 < max(abs(each.sway.x) for each in poses) <= 1.0
    assert 0.3 < max(abs(each.sway.y) for each in poses) <= 0.5
    assert any(each.lids_down == 1 for each in poses), "nobody blinks"


def test_the_sway_has_ended_before_the_first_word() -> None:
    for start in range(60, 100):
        poses = acted([False] * start + [True] * 30)
        assert all(each.sway == STILL for each in poses[start:])
        assert np.array_equal(poses[start].motion, OPEN), "the first word is spoken with half-closed lips"


def test_live_speech_has_open_lips_at_once_and_ends_the_sway_within_half_a_second() -> None:
    poses = acted([False] * 90 + [True] * 30, notice=0)
    assert np.array_equal(poses[92].motion, OPEN)
    assert all(each.sway == STILL for each in poses[103:])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=8), st.integers(0, NOTICE_STEPS))
def test_nothing_jumps(parts: list[tuple[bool, int]], notice: int) -> None:
    poses = acted([speaks for speaks, count in parts for _ in range(count)], notice)
    for before, after in pairwise(poses):
        assert np.abs(after.motion - before.motion).max() <= 12 * 0.55
        assert abs(after.sway.x - before.sway.x) < 0.18
        assert abs(after.sway.y - before.sway.y) < 0.18
