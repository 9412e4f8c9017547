"""The frame-day table: what every frame did on every day of a rollout, as arrays.

Days are counted from the rollout's start: day s covers the hours [24 s, 24 s + 24). A row holds the whole sums of one
frame's day as far as they are known; on the day of its offer, a canary's row holds only what came after the offer. Sums
only grow while telemetry comes in, so of several rows for the same frame and day the one with most in it is the newest
and stays. Late, repeated and reordered rows therefore give the same table, to the last bit.

| symbol | where | meaning |
| --- | --- | --- |
| i | index into ``Frames`` | frame |
| s | ``Days.day`` x ``Frames.hardware`` | stratum |
| n_is, sum y | ``Days.sums`` | playbacks with a value, and the sum of these values |
| T, C | ``Frames.arm`` | canaries, controls, by assignment |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HOURS = 24.0


class Arm(IntEnum):
    """A frame's side by assignment, whatever it runs."""

    NEITHER = -1
    """Eligible for a later stage, or held back: not compared."""
    CONTROL = 0
    CANARY = 1


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """A measure's sum and the number of playbacks in it; completion: how many were watched to the end."""

    total: FloatArray
    count: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """One entry for each frame of the group. Hours are counted from the rollout's start; infinity is "never"."""

    hardware: IntArray
    """Number of the hardware stratum, from 0."""
    arm: IntArray
    offered_h: FloatArray
    """When the release was offered; infinity for controls."""
    entered_h: FloatArray
    """When the frame came into the group: 0, or later for late joiners."""
    left_h: FloatArray
    """When it was retired or left the group. From that day on it may play something else: those days do not count."""
    history: Mapping[str, Sums]
    """Sums of the 28 days before the start, by measure."""
    history_complaints: FloatArray
    """Days with a complaint in the time before the start ..."""
    history_days: FloatArray
    """... and how many days that time had for this frame."""
    first_h: Mapping[str, FloatArray]
    """The first event since the start, by rare event, exposed or not."""

    def __len__(self) -> int:
        return len(self.arm)


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """One entry for each frame and day with telemetry."""

    frame: IntArray
    day: IntArray
    playbacks: FloatArray
    under_release: FloatArray
    """Playbacks that really ran the release, as the events themselves say."""
    complained: FloatArray
    """1 if there was a complaint, else 0."""
    sums: Mapping[str, Sums]

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A checked table, rows ascending by frame and day, each pair once."""

    frames: Frames
    days: Days
    now_h: float
    """Hours since the rollout's start."""

    def start_h(self) -> FloatArray:
        """From when each frame counts: its offer, or its coming into the group."""
        frames = self.frames
        offered = np.where(frames.arm == Arm.CANARY, frames.offered_h, 0.0)
        return np.maximum(frames.entered_h, offered)

    def end_h(self) -> FloatArray:
        """Until when each frame counts."""
        return np.minimum(self.frames.left_h, self.now_h)

    def days_end_h(self) -> FloatArray:
        """Until when each frame's rows count: not from the day on which it left."""
        return np.minimum(np.floor(self.frames.left_h / HOURS) * HOURS, self.now_h)


def build(frames: Frames, days: Days, now_h: float) -> Table:
    """The table of ``days`` in any order, with any repetition, without the days from which on a frame had left. Raises
    ValueError with one sentence on what is wrong."""
    _check_frames(frames, now_h)
    _check_days(frames, days, now_h)
    left = np.floor(frames.left_h / HOURS)
    days = _newest(days)
    if bool(np.isfinite(left).any()):
        days = take(days, days.day < left[days.frame])
    return Table(frames, days, now_h)


def _check_frames(frames: Frames, now_h: float) -> None:
    if not (np.isfinite(now_h) and now_h >= 0):
        raise ValueError("The table's time must be at or after the rollout's start.")
    columns = [frames.hardware, frames.offered_h, frames.entered_h, frames.left_h, frames.history_complaints]
    columns += [frames.history_days, *frames.first_h.values()]
    columns += [column for sums in frames.history.values() for column in (sums.total, sums.count)]
    if any(column.shape != (len(frames),) for column in columns):
        raise ValueError("Every column about frames must have one value for each frame.")
    if not bool(np.all(np.isin(frames.arm, [int(arm) for arm in Arm]))):
        raise ValueError("A frame's arm is canary (1), control (0) or neither (-1).")
    if len(frames) and frames.hardware.min() < 0:
        raise ValueError("Hardware strata are numbered from 0.")
    if any(bool(np.isnan(column).any()) for column in columns):
        raise ValueError("A value about a frame is missing: leave the measure or the frame out instead.")
    if not bool(np.all(np.isfinite(frames.offered_h[frames.arm == Arm.CANARY]))):
        raise ValueError("Every canary needs the time of its offer: a frame without one is neither.")
    if bool(np.any(frames.history_complaints > frames.history_days)):
        raise ValueError("A frame cannot have complained on more days than its history has.")


def _check_days(frames: Frames, days: Days, now_h: float) -> None:
    counts = [days.playbacks, days.under_release, days.complained]
    counts += [sums.count for sums in days.sums.values()]
    totals = [sums.total for sums in days.sums.values()]
    if any(column.shape != (len(days),) for column in (days.day, *counts, *totals)):
        raise ValueError("Every column of the table must have one value for each row.")
    if not len(days):
        return
    if days.frame.min() < 0 or days.frame.max() >= len(frames):
        raise ValueError("A row names a frame that is not in the group.")
    if days.day.min() < 0 or days.day.max() > now_h // HOURS:
        raise ValueError("A row's day lies before the rollout's start or in the future: correct clocks before summing.")
    if not all(bool(np.all(np.isfinite(column))) for column in (*counts, *totals)):
        raise ValueError("A value in the table is missing or infinite: leave the measure out of the row instead.")
    if any(column.min() < 0 for column in counts) or days.complained.max() > 1:
        raise ValueError("Counts cannot be below 0, and a frame complains at most once a day.")
    if bool(np.any(days.under_release > days.playbacks)):
        raise ValueError("A frame cannot have played the release more often than it played.")


def _newest(days: Days) -> Days:
    """Rows ascending by frame and day, of equal pairs the one with most in it."""
    span = int(days.day.max()) + 1 if len(days) else 1
    key = days.frame * span + days.day
    if bool(np.all(key[1:] > key[:-1])):
        return days
    # A slot for every pair that can be: linear, where sorting millions of rows takes a second.
    slots = np.full(int(key.max()) + 1, -1, dtype=np.int64)
    slots[key] = np.arange(len(key))
    repeated = np.flatnonzero(np.bincount(key)[key] > 1)
    if len(repeated):
        names = sorted(days.sums)
        # The first that differ decide: counts before sums, so that a row seen later wins, whatever its values.
        ranks = [days.playbacks, days.under_release, days.complained]
        ranks += [days.sums[name].count for name in names] + [days.sums[name].total for name in names]
        ascending = repeated[np.lexsort([rank[repeated] for rank in reversed(ranks)])]
        slots[key[ascending]] = ascending  # of several, the last one stays
    return take(days, slots[slots >= 0])


def sum_by(index: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Sums of ``values`` by ``index``, shape (size,)."""
    return np.bincount(index, weights=values, minlength=size).astype(np.float64)


def take(days: Days, rows: IntArray | NDArray[np.bool_]) -> Days:
    """Some rows of ``days``."""
    return Days(
        frame=days.frame[rows],
        day=days.day[rows],
        playbacks=days.playbacks[rows],
        under_release=days.under_release[rows],
        complained=days.complained[rows],
        sums={name: Sums(sums.total[rows], sums.count[rows]) for name, sums in days.sums.items()},
    )
