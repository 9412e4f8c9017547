"""Blinking: a face that speaks and never blinks is unpleasant to look at.

The upper lid's skin is drawn down over the eye, as the upper lip is over the teeth; all else stays. A blink knows only
a few lid positions, so each is drawn once per photo and copied from then on.
"""

from typing import Final

import cv2
import numpy as np

from device_agent.pipeline.canvas import Box
from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.mouth import Curve, Placement

# FaceMesh points of both lids, from image left to image right.
_EYES: Final = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
# How far the lid is down in each frame of a blink; real ones close faster than they open.
_BLINK: Final = (0.45, 1.0, 1.0, 0.6, 0.2)
# Frames from one blink to the next, in turn: 2.4 s to 4.6 s, as people do while they talk.
_PAUSES: Final = (33, 92, 71, 115, 60, 104, 83)
# An eye less open than this is closed. So is one, or hidden by dark glasses, that shows no iris beside its white from
# left to right (8-bit brightness between upright slices); FaceMesh alone draws closed eyes half open.
_OPEN_MM: Final = 3.0
_CONTRAST: Final = 70.0
_SLICES: Final = 12
# The lid's edge lies a little above the landmarks' line, where the lashes grow.
_LASHES_MM: Final = 0.5
_LASH_BAND_MM: Final = 2.2
_MARGIN_MM: Final = 4.0


def blink_at(step: int) -> float:
    """How far the lids are down (0..1) in frame `step` of a playback; the same in every playback."""
    period = sum(_PAUSES) + len(_PAUSES) * len(_BLINK)
    position = step % period
    for pause in _PAUSES:
        if position < pause:
            return 0.0
        position -= pause
        if position < len(_BLINK):
            return _BLINK[position]
        position -= len(_BLINK)
    return 0.0


class Eyes:
    """Both eyes of one still picture."""

    def __init__(self, still: Image, points: Points, placement: Placement, softness: float) -> None:
        """`still` (1080, 1920, 3) uint8 BGR and its landmarks; `softness` the photo's blur in pixels."""
        self._eyes = [
            eye for upper, lower in _EYES if (eye := _Eye(still, points, placement, softness, upper, lower)).can_blink
        ]
        if len(self._eyes) < len(_EYES):
            self._eyes = []  # winking would be worse than staring

    @property
    def boxes(self) -> list[Box]:
        """Where the eyes that can blink are, with even sides; none or two."""
        return [eye.box for eye in self._eyes]

    def pictures(self, down: float) -> list[tuple[Box, Image]]:
        """Both eyes as BGR pictures with their lids set: 0 as in the photo, 1 closed. Do not write to them."""
        return [(eye.box, eye.picture(down)) for eye in self._eyes]


class _Eye:
    def __init__(
        self,
        still: Image,
        points: Points,
        placement: Placement,
        softness: float,
        upper: tuple[int, ...],
        lower: tuple[int, ...],
    ) -> None:
        local = placement.to_mouth(points)
        lids = local[[*upper, *lower]]
        corner = (
            placement.matrix()
            @ np.array(
                [
                    (x, y, 1.0)
                    for x in (lids[:, 0].min() - _MARGIN_MM, lids[:, 0].max() + _MARGIN_MM)
                    for y in (lids[:, 1].min() - 3 * _MARGIN_MM, lids[:, 1].max() + _MARGIN_MM)
                ]
            ).T
        )
        height, width = still.shape[:2]
        left, top = (max(0, int(value)) for value in np.floor(corner.min(axis=1)))
        right, bottom = np.ceil(corner.max(axis=1)).astype(int)
        self.box = Box(left, top, max(left, min(width, int(right))), max(top, min(height, int(bottom)))).even()
        self._rows_columns = self.box.slices
        self._still = still
        self._matrix = placement.matrix()
        self._softness_mm = np.float32(softness / placement.scale)
        grid_x, grid_y = np.meshgrid(np.arange(self.box.left, self.box.right), np.arange(self.box.top, self.box.bottom))
        flat = np.column_stack([grid_x.reshape(-1), grid_y.reshape(-1)]).astype(np.float32)
        mm = placement.to_mouth(flat).astype(np.float32)
        self._x, self._y = (mm[:, axis].reshape(grid_x.shape) for axis in (0, 1))
        self._upper = Curve(local, upper)(mm[:, 0]).reshape(grid_x.shape)
        self._lower = np.maximum(self._upper, Curve(local, lower)(mm[:, 0]).reshape(grid_x.shape))
        self.can_blink = self._is_open(still)
        self._patches: dict[float, Image] = {0.0: still[self._rows_columns].copy()}

    def picture(self, down: float) -> Image:
        if down not in self._patches:
            if len(self._patches) > len(_BLINK):  # only a caller with other values than a blink's gets here
                self._patches = {0.0: self._patches[0.0]}
            self._patches[down] = self._drawn(np.float32(min(1.0, max(0.0, down))))
        return self._patches[down]

    def _is_open(self, still: Image) -> bool:
        gap = self._lower - self._upper
        if gap.size == 0 or float(gap.max()) < _OPEN_MM:
            return False
        inside = (self._y > self._upper + 0.2 * gap) & (self._y < self._lower - 0.2 * gap) & (gap > 1)
        light = cv2.cvtColor(still[self._rows_columns], cv2.COLOR_BGR2GRAY)[inside].astype(np.float64)
        x = self._x[inside]
        if x.size < 10 * _SLICES:
            return False
        place = np.clip(((x - x.min()) / max(float(np.ptp(x)), 1e-6) * _SLICES).astype(int), 0, _SLICES - 1)
        count = np.bincount(place, minlength=_SLICES)
        means = np.bincount(place, light, minlength=_SLICES)[count > 0] / count[count > 0]
        return float(np.percentile(means, 90) - np.percentile(means, 10)) > _CONTRAST

    def _drawn(self, down: np.float32) -> Image:
        """The eye's rectangle with its lid drawn down."""
        edge = self._upper - np.float32(_LASHES_MM)
        gap = self._lower - self._upper
        # At the corners the lids already meet and nothing moves.
        travel = gap * down + np.float32(1.8 * _LASHES_MM) * down * np.clip(gap / 1.5, 0, 1)
        # The lashes travel as they are; the skin between them and the brow is what stretches.
        lashes = edge - np.float32(_LASH_BAND_MM)
        start = lashes - np.maximum(np.float32(6), 1.2 * gap)
        share = np.clip((self._y - start) / (lashes + travel - start), 0, 1)
        source_y = self._y - travel * share * share * (3 - 2 * share)
        shift = source_y - self._y
        rows, columns = np.indices(self._x.shape, dtype=np.float32)
        left, top = self.box.left, self.box.top
        lid = cv2.remap(
            self._still,
            columns + np.float32(left) + shift * np.float32(self._matrix[0, 1]),
            rows + np.float32(top) + shift * np.float32(self._matrix[1, 1]),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cover = np.clip((edge + travel - self._y) / (2 * self._softness_mm) + 0.5, 0, 1).astype(np.float32)
        return np.asarray(cv2.blendLinear(lid, self._patches[0.0], cover, 1 - cover), np.uint8)
