"""The frame-day table: whatever way telemetry comes in, it is the same table, and nonsense is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.domain.analysis.evaluate import evaluate
from ota.domain.analysis.policy import COMPLETION, POWER, STAGES
from ota.domain.analysis.table import Arm, Days, Frames, Sums, build, take
from tests.ota.domain.analysis.people import POLICY, fleet

FRAMES, DAYS = fleet(1, frames=60, days=4)
NOW = 95.0


def joined(parts: list[Days]) -> Days:
    def put(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    sums = {
        name: Sums(
            np.concatenate([part.sums[name].total for part in parts]),
            np.concatenate([part.sums[name].count for part in parts]),
        )
        for name in parts[0].sums
    }
    return Days(put("frame"), put("day"), put("playbacks"), put("under_release"), put("complained"), sums)


def earlier(days: Days) -> Days:
    """What was known before the last playback of each frame-day came in."""
    some = take(days, days.playbacks > 0)
    whole = some.sums[POWER]
    fewer = whole.count - 1
    return replace(
        some,
        playbacks=some.playbacks - 1,
        under_release=np.maximum(some.under_release - 1, 0),
        sums={
            COMPLETION: Sums(np.minimum(some.sums[COMPLETION].total, fewer), fewer),
            POWER: Sums(whole.total * fewer / whole.count, fewer),
        },
    )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_late_repeated_and_reordered_rows_give_the_same_evidence(seed: int) -> None:
    random = np.random.default_rng(seed)
    messy = joined([DAYS, earlier(DAYS), take(DAYS, random.random(len(DAYS)) < 0.3)])
    messy = take(messy, random.permutation(len(messy)))
    clean, found = build(FRAMES, DAYS, NOW), build(FRAMES, messy, NOW)
    assert np.array_equal(found.days.frame, clean.days.frame)
    assert all(np.array_equal(found.days.sums[n].total, clean.days.sums[n].total) for n in clean.days.sums)
    assert evaluate(found, STAGES[2], 0.0, POLICY) == evaluate(clean, STAGES[2], 0.0, POLICY)


def change(column: str, index: int, value: float) -> Days:
    array = getattr(DAYS, column).copy()
    array[index] = value
    return replace(DAYS, **{column: array})


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (change("frame", 0, 60), "not in the group"),
        (change("day", 0, -1), "correct clocks"),
        (change("day", 0, 9), "correct clocks"),
        (change("playbacks", 0, np.nan), "missing or infinite"),
        (change("complained", 0, 2.0), "at most once a day"),
        (change("under_release", 0, 999.0), "more often than it played"),
        (replace(DAYS, day=DAYS.day[1:]), "one value for each row"),
    ],
)
def test_rows_that_cannot_be_are_refused(days: Days, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(FRAMES, days, NOW)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (replace(FRAMES, arm=np.full(60, 7)), "arm is canary"),
        (replace(FRAMES, arm=np.full(60, int(Arm.CANARY))), "time of its offer"),
        (replace(FRAMES, history_complaints=np.full(60, 91.0)), "more days than"),
        (replace(FRAMES, left_h=np.full(60, np.nan)), "missing"),
        (replace(FRAMES, hardware=FRAMES.hardware[1:]), "one value for each frame"),
    ],
)
def test_frames_that_cannot_be_are_refused(frames: Frames, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(frames, DAYS, NOW)


def test_what_a_frame_does_after_it_left_is_nobodys() -> None:
    """Another rollout may have taken it: what it plays from then on, and what it complains about, says nothing here."""
    left = np.where((FRAMES.arm == Arm.CONTROL) & (np.arange(60) % 2 == 0), 30.0, np.inf)
    gone = replace(FRAMES, left_h=left)
    after = np.isfinite(left)[DAYS.frame] & (DAYS.day >= 1)
    assert after.any()
    shown = DAYS.sums[COMPLETION]
    better = replace(
        DAYS,
        complained=np.where(after, 1.0, DAYS.complained),
        sums=dict(DAYS.sums) | {COMPLETION: Sums(np.where(after, shown.count, shown.total), shown.count)},
    )
    assert evaluate(build(gone, better, NOW), STAGES[2], 0.0, POLICY) == evaluate(
        build(gone, take(DAYS, ~after), NOW), STAGES[2], 0.0, POLICY
    )
