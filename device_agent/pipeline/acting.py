"""What the portrait does in each frame: it speaks, or it is there. Pure: no pixels, no clock.

While somebody speaks the lips follow the motion. While nobody does they close, the head sways a little, and the eyes
blink all the time. Every change is eased over some frames, because a face that jumps is a broken face.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from device_agent.pipeline.canvas import FPS
from device_agent.pipeline.eyes import blink_at

Motion = npt.NDArray[np.float32]

CLOSED: Final = np.zeros(6, np.float32)
"""Lips that touch, jaw at rest."""
CLOSED.flags.writeable = False

# Frames of 40 ms. Lips part just before the sound, as speakers' do, and come together slower than they parted.
_LIPS_PART: Final = 3
_LIPS_CLOSE: Final = 7
_SWAY_STARTS: Final = 40
_SWAY_ENDS: Final = 12
_RESTS_BEFORE_SWAY: Final = 15
# Millimetres and seconds of two slow swings whose periods have no small common multiple.
_SWAY_X: Final = (1.0, 5.3)
_SWAY_Y: Final = (0.5, 3.7)

NOTICE_STEPS: Final = _SWAY_ENDS
"""How many steps ahead `Acting` can make use of knowing that somebody will speak."""


class Sway(NamedTuple):
    """How far the head is from where the photo has it, in mm along and down the face."""

    x: float
    y: float


STILL: Final = Sway(0.0, 0.0)


@dataclass(frozen=True)
class Pose:
    """One frame: 6 mouth parameters in mm, lids 0 (as in the photo) to 1 (closed), and the head's sway."""

    motion: Motion
    lids_down: float = 0.0
    sway: Sway = STILL


class Acting:
    """Turns motion and speech into poses, one per frame."""

    def __init__(self) -> None:
        self._frame = 0
        self._lips = 0.0
        self._swing = 0.0
        self._resting = _RESTS_BEFORE_SWAY
        self._phase = 0

    def pose(self, motion: Motion, speaking: Sequence[bool]) -> Pose:
        """`speaking`: whether this step is speech and, as far as that is known, each of the steps after it.

        With fewer than `NOTICE_STEPS` steps of notice the sway ends while the first word is being said.
        """
        soon = any(speaking[: _LIPS_PART + 1])
        if self._frame == 0 and speaking[0]:
            self._lips = 1.0  # nothing was seen before, so nothing jumps
        self._lips = _towards(self._lips, soon, 1 / _LIPS_PART, 1 / _LIPS_CLOSE)
        self._resting = 0 if any(speaking[: NOTICE_STEPS + 1]) else self._resting + 1
        swings = self._resting > _RESTS_BEFORE_SWAY
        self._swing = _towards(self._swing, swings, 1 / _SWAY_STARTS, 1 / _SWAY_ENDS)
        # Each silence begins its swing in the middle, where it is hardly seen to begin.
        self._phase = self._phase + 1 if self._swing else 0
        lids = blink_at(self._frame)
        self._frame += 1
        return Pose(self._spoken(motion), lids, self._sway())

    def _spoken(self, motion: Motion) -> Motion:
        share = _smooth(self._lips)
        if share in (0.0, 1.0):
            return motion if share else CLOSED
        return np.asarray(motion * np.float32(share), np.float32)

    def _sway(self) -> Sway:
        size = _smooth(self._swing)
        if size == 0:
            return STILL
        seconds = self._phase / FPS
        (x, x_period), (y, y_period) = _SWAY_X, _SWAY_Y
        return Sway(
            size * x * math.sin(2 * math.pi * seconds / x_period), size * y * math.sin(2 * math.pi * seconds / y_period)
        )


def _towards(value: float, up: bool, rise: float, fall: float) -> float:
    return min(1.0, value + rise) if up else max(0.0, value - fall)


def _smooth(share: float) -> float:
    return share * share * (3 - 2 * share)
