"""The part of the picture that speaks: one rectangle around mouth and chin, one BGR picture per motion.

All that depends on the photo alone is done once. Per frame, contours are moved on a coarse grid in the mouth's own
frame, the resulting displacement is enlarged to the canvas, and skin is sampled straight from the still picture: the
upper sheet down to the inner upper lip, the lower sheet from the inner lower lip on, the painted interior between them.
"""

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.pipeline.canvas import Box
from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.framing import HEIGHT, WIDTH
from device_agent.pipeline.interior import Edges, Interior, Plane
from device_agent.pipeline.lips import find_seam
from device_agent.pipeline.mouth import HALF_WIDTH_MM, Contours, Mouth, MovedMouth, Placement

# One grid cell per this many canvas pixels.
_CELL_PX: Final = 4.0
_ABOVE_NOSE_MM: Final = 8.0
# How far the lips' edges can travel from where the photo has them.
_LIP_TRAVEL_UP_MM: Final = 8.0
_LIP_TRAVEL_DOWN_MM: Final = 15.0


class MouthRegion:
    """Draws mouth and chin of one portrait; `box` says where on the canvas. Not for several threads at once."""

    def __init__(self, still: Image, points: Points, placement: Placement, softness: float) -> None:
        """`still` (1080, 1920, 3) uint8 BGR and its landmarks (468, 3); `softness` the photo's blur in pixels."""
        self._still = still
        self._placement = placement
        self._soft = softness
        self._mouth = Mouth(points, placement, blur_mm=1.8 * softness / placement.scale)
        seam = find_seam(still, self._mouth, placement)
        if seam is not None:
            self._mouth.close(*seam)
        self._grid_x, self._grid_y = _grid(self._mouth, placement.scale)
        self.box = _bounds(
            placement,
            (float(self._grid_x[0]), float(self._grid_x[-1])),
            (float(self._grid_y[0]), float(self._grid_y[-1])),
        ).even()
        self._to_region = _grid_to_canvas(placement, self._grid_x, self._grid_y, self.box)
        left, top, right, bottom = self.box
        self._map_x, self._map_y = (
            np.ascontiguousarray(each, np.float32)
            for each in np.meshgrid(np.arange(left, right), np.arange(top, bottom))
        )
        self._opening = self._opening_box()
        self._interior = Interior(still, points, self._mouth, placement, self._opening, softness)
        self._sideways = _sideways_weight(self._grid_y, self._mouth.top, self._mouth.bottom)
        self._inland = _fade_to_border(len(self._grid_y), len(self._grid_x))
        self._picture = np.empty((bottom - top, right - left, 3), np.uint8)

    def draw(self, motion: npt.NDArray[np.float32]) -> Image:
        """Draw one motion (6 values in mm): the picture at `box`, uint8 BGR, valid until the next call."""
        if motion.shape != (6,) or not np.isfinite(motion).all():
            raise ValueError("a motion is six finite numbers: open, width, protrusion, jaw, tuck, tongue in mm")
        moved = self._mouth.move(self._grid_x, motion)
        middle = np.asarray((moved.target.upper_inner + moved.target.lower_inner) / 2, np.float32)
        first, last = self._seam_rows(middle)
        out = self._picture
        upper = self._sheet(moved, _pull_upper(moved, self._grid_y), 0, last)
        lower = self._sheet(moved, _pull_lower(moved, self._grid_y, self._mouth.bottom), first, len(out))
        out[:first] = upper[:first]
        out[last:] = lower[last - first :]
        out[first:last] = self._joined(upper[first:], lower[: last - first], middle, first)
        self._open(out, moved.target, moved.shift, motion)
        return out

    def _sheet(self, moved: MovedMouth, pull_y: Plane, first: int, last: int) -> Image:
        """Sample rows `first`..`last` of the region with the given vertical pull (mm, on the grid)."""
        pull_y = pull_y * self._inland
        pull_x = moved.shift[None, :] * self._sideways[:, None] * self._inland
        cos = np.float32(math.cos(self._placement.angle) * self._placement.scale)
        sin = np.float32(math.sin(self._placement.angle) * self._placement.scale)
        pull = np.dstack([cos * pull_x - sin * pull_y, sin * pull_x + cos * pull_y])
        pull = self._enlarge(pull, first, last)
        return cv2.remap(  # type: ignore[return-value]
            self._still,
            self._map_x[first:last] + pull[:, :, 0],
            self._map_y[first:last] + pull[:, :, 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _enlarge(self, grid: Plane, first: int, last: int, left: int = 0, right: int | None = None) -> Plane:
        """Grid values at the canvas pixels of the region's rows and columns."""
        width = (self.box.right - self.box.left if right is None else right) - left
        matrix = self._to_region.copy()
        matrix[:, 2] -= (left, first)
        return cv2.warpAffine(  # type: ignore[return-value]
            grid, matrix, (width, last - first), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def _joined(self, upper: Image, lower: Image, middle: Plane, first: int) -> Image:
        """Lay both sheets together in the rows (from `first`) where they meet, along the line `middle`."""
        soft = np.float32(2 * self._soft / self._placement.scale)
        above = np.asarray((middle - self._grid_y[:, None]) / soft + np.float32(0.5), np.float32)
        above = np.clip(self._enlarge(above, first, first + len(upper)), 0, 1)
        return np.asarray(cv2.blendLinear(upper, lower, above, 1 - above), np.uint8)

    def _open(self, skin: Image, target: Contours, shift: Plane, motion: npt.NDArray[np.float32]) -> None:
        """Paint the interior where the lips are apart, in place."""
        first, last = self._open_rows(target)
        if last <= first:
            return
        scale = np.float32(self._placement.scale)
        y = self._grid_y[:, None]
        left, right, top = self._opening.left - self.box.left, self._opening.right - self.box.left, self.box.top
        side = self._mouth.side(self._grid_x + shift)
        half_px = np.float32((self._mouth.right - self._mouth.left) / 2 * self._placement.scale)
        fields = np.dstack(
            [
                (y - target.upper_inner) * (_upright(target.upper_inner, self._grid_x) * scale),
                (target.lower_inner - y) * (_upright(target.lower_inner, self._grid_x) * scale),
                np.broadcast_to((1 - np.abs(side)) * half_px, (len(self._grid_y), len(side))),
            ]
        ).astype(np.float32)
        below, over, inland = cv2.split(self._enlarge(fields, first - top, last - top, left, right))
        soft = np.float32(2 * self._soft)
        inside = np.clip(below / soft + np.float32(0.5), 0, 1)
        inside *= np.clip(over / soft + np.float32(0.5), 0, 1)
        inside *= np.clip(inland / np.float32(4), 0, 1)
        floor = float(target.lower_inner[len(target.lower_inner) // 2])
        edges = Edges(np.asarray(below, np.float32), np.asarray(over, np.float32))
        painted = self._interior.paint(motion, edges, floor, (first, last))
        box = slice(first - top, last - top), slice(left, right)
        skin[box] = cv2.blendLinear(painted, skin[box].astype(np.float32), inside, 1 - inside)

    def _seam_rows(self, middle: Plane) -> tuple[int, int]:
        """Rows of the region (first, last) in which the two sheets meet along the line `middle` (mm)."""
        x = self._grid_x
        reach = 1.5 * self._soft / self._placement.scale
        box = _bounds(
            self._placement, (float(x[0]), float(x[-1])), (float(middle.min()) - reach, float(middle.max()) + reach)
        )
        top, bottom = self.box.top, self.box.bottom
        first = min(max(0, box.top - top), bottom - top)
        return first, max(first, min(bottom - top, box.bottom - top))

    def _open_rows(self, target: Contours) -> tuple[int, int]:
        """Canvas rows (first, last) that this opening can reach: most of the time far fewer than the widest needs."""
        x = self._grid_x
        within = (x > self._mouth.left - 6) & (x < self._mouth.right + 6)
        reach = 1.5 * self._soft / self._placement.scale
        box = _bounds(
            self._placement,
            (self._mouth.left - 6, self._mouth.right + 6),
            (float(target.upper_inner[within].min()) - reach, float(target.lower_inner[within].max()) + reach),
        )
        return max(self._opening.top, box.top), min(self._opening.bottom, box.bottom)

    def _opening_box(self) -> Box:
        """Canvas rectangle that holds every opening of this mouth."""
        x = np.linspace(self._mouth.left, self._mouth.right, 64, dtype=np.float32)
        contours = self._mouth.at(x)
        box = _bounds(
            self._placement,
            (self._mouth.left - 6, self._mouth.right + 6),
            (
                float(contours.upper_inner.min()) - _LIP_TRAVEL_UP_MM,
                float(contours.lower_inner.max()) + _LIP_TRAVEL_DOWN_MM,
            ),
        )
        left, top, right, bottom = self.box
        return Box(max(left, box.left), max(top, box.top), min(right, box.right), min(bottom, box.bottom))


def _grid(mouth: Mouth, scale: float) -> tuple[Plane, Plane]:
    """Columns and rows of the coarse grid, in mm."""
    cell = _CELL_PX / scale
    middle = (mouth.left + mouth.right) / 2
    across = math.ceil(HALF_WIDTH_MM / cell)
    x = middle + np.arange(-across, across + 1, dtype=np.float32) * np.float32(cell)
    top = mouth.top - _ABOVE_NOSE_MM
    rows = math.ceil((mouth.bottom - top) / cell) + 1
    return x.astype(np.float32), (top + np.arange(rows) * cell).astype(np.float32)


def _bounds(placement: Placement, x: tuple[float, float], y: tuple[float, float]) -> Box:
    """The canvas rectangle around a rectangle of the mouth's frame, cut to the canvas."""
    corners = np.array([(a, b, 1.0) for a in x for b in y]) @ placement.matrix().T
    left, top = np.floor(corners.min(axis=0))
    right, bottom = np.ceil(corners.max(axis=0))
    return Box(max(0, int(left)), max(0, int(top)), min(WIDTH, int(right)), min(HEIGHT, int(bottom)))


def _grid_to_canvas(placement: Placement, x: Plane, y: Plane, region: Box) -> npt.NDArray[np.float64]:
    """(2, 3): grid indices (column, row) to pixels of the region."""
    to_mm = np.array([[x[1] - x[0], 0, x[0]], [0, y[1] - y[0], y[0]], [0, 0, 1]], np.float64)
    matrix = placement.matrix() @ to_mm
    matrix[:, 2] -= region[:2]
    return np.asarray(matrix)


def _sideways_weight(y: Plane, nose: float, bottom: float) -> Plane:
    """1 around the mouth, 0 at the nose and below the chin: how much of the corners' travel a row takes part in."""
    above = np.clip((y - nose) / max(1.0, -0.75 * nose), 0, 1)
    below = np.clip((bottom - 8 - y) / max(1.0, 0.75 * bottom), 0, 1)
    weight = np.minimum(above, below)
    return np.asarray(weight * weight * (3 - 2 * weight), np.float32)


def _fade_to_border(rows: int, columns: int) -> Plane:
    """1 inside, 0 on the grid's border, so that the region joins the still picture without a seam."""
    down = np.clip(np.minimum(np.arange(rows), np.arange(rows)[::-1]) / 3, 0, 1)
    across = np.clip(np.minimum(np.arange(columns), np.arange(columns)[::-1]) / 8, 0, 1)
    return np.asarray(down[:, None] * across[None, :], np.float32)


def _ramp(y: Plane, first: Plane | np.float32, last: Plane | np.float32) -> Plane:
    """0 above `first`, 1 below `last`, straight between; (rows, columns)."""
    return np.asarray(np.clip((y - first) / np.maximum(last - first, np.float32(0.05)), 0, 1), np.float32)


def _pull_upper(moved: MovedMouth, grid_y: Plane) -> Plane:
    """Where the upper sheet is sampled, mm down from where it is seen; (rows, columns)."""
    y = grid_y[:, None]
    outer = moved.source.upper_outer - moved.target.upper_outer
    inner = moved.source.upper_inner - moved.target.upper_inner
    rise = _ramp(y, grid_y[0], moved.target.upper_outer)
    return rise * rise * (3 - 2 * rise) * outer + _ramp(y, moved.target.upper_outer, moved.target.upper_inner) * (
        inner - outer
    )


def _pull_lower(moved: MovedMouth, grid_y: Plane, bottom: float) -> Plane:
    """Where the lower sheet is sampled, mm down from where it is seen; (rows, columns)."""
    y = grid_y[:, None]
    inner = moved.source.lower_inner - moved.target.lower_inner
    outer = moved.source.lower_outer - moved.target.lower_outer
    chin = moved.source.chin - moved.target.chin
    pull = inner + _ramp(y, moved.target.lower_inner, moved.target.lower_outer) * (outer - inner)
    pull += _ramp(y, moved.target.lower_outer, moved.target.chin) * (chin - outer)
    neck = _ramp(y, moved.target.chin, np.float32(bottom))
    return np.asarray(pull - neck * neck * (3 - 2 * neck) * chin)


def _upright(line: Plane, x: Plane) -> Plane:
    """Turns a vertical distance to a sloping line into the true one."""
    slope = np.gradient(line, x)
    return np.asarray(1 / np.sqrt(1 + slope * slope), np.float32)
