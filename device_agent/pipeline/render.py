"""From motion to pixels: one photo that speaks, 1920 x 1080, one frame per motion.

All that depends on the photo alone is done once. Per frame, contours are moved on a coarse grid in the mouth's own
frame, the resulting displacement is enlarged to the canvas, and skin is sampled straight from the still picture: the
upper sheet down to the inner upper lip, the lower sheet from the inner lower lip on, the painted interior between them.
Outside one rectangle around mouth and chin, and two around the eyes, no pixel is ever written again.
"""

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.pipeline.eyes import Eyes
from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.framing import HEIGHT, WIDTH, frame_portrait
from device_agent.pipeline.interior import Edges, Interior, Plane
from device_agent.pipeline.lips import find_seam
from device_agent.pipeline.mouth import HALF_WIDTH_MM, Mouth, MovedMouth, Placement, place_mouth

FPS: Final = 25
# A frame stays valid while the next one is drawn: enough for an encoder or a display that lags by one.
_BUFFERS: Final = 2
# One grid cell per this many canvas pixels.
_CELL_PX: Final = 4.0
_ABOVE_NOSE_MM: Final = 8.0
# How far the lips' edges can travel from where the photo has them.
_LIP_TRAVEL_UP_MM: Final = 8.0
_LIP_TRAVEL_DOWN_MM: Final = 15.0

Rectangle = tuple[int, int, int, int]


class PortraitRenderer:
    """Draws the frames of one portrait. Not for use from several threads at once."""

    def __init__(self, photo: Image, landmarks: Points) -> None:
        """`photo` (h, w, 3) uint8 BGR; `landmarks` (468, 3) float32 in photo pixels, from `FaceFinder`."""
        framed = frame_portrait(photo, landmarks)
        self._still = framed.canvas
        self._placement = place_mouth(framed.points)
        scale = self._placement.scale
        self._soft = max(1.0, 0.45 * framed.zoom)
        self._mouth = Mouth(framed.points, self._placement, blur_mm=1.8 * self._soft / scale)
        seam = find_seam(self._still, self._mouth, self._placement)
        if seam is not None:
            self._mouth.close(*seam)
        self._grid_x, self._grid_y = _grid(self._mouth, scale)
        self.region = _bounds(
            self._placement,
            (float(self._grid_x[0]), float(self._grid_x[-1])),
            (float(self._grid_y[0]), float(self._grid_y[-1])),
        )
        self._to_region = _grid_to_canvas(self._placement, self._grid_x, self._grid_y, self.region)
        self._strip = self._lip_strip()
        left, top, right, bottom = self.region
        self._map_x, self._map_y = (
            np.ascontiguousarray(each, np.float32)
            for each in np.meshgrid(np.arange(left, right), np.arange(top, bottom))
        )
        self._interior = Interior(
            self._still, framed.points, self._mouth, self._placement, self._opening_rectangle(), self._soft
        )
        self._sideways = _sideways_weight(self._grid_y, self._mouth.top, self._mouth.bottom)
        self._inland = _fade_to_border(len(self._grid_y), len(self._grid_x))
        self._eyes = Eyes(self._still, framed.points, self._placement, self._soft)
        self._buffers = [self._still.copy() for _ in range(_BUFFERS)]
        self._next = 0

    @property
    def still(self) -> Image:
        """The composed photo before anything moves, (1080, 1920, 3) uint8 BGR. Do not write to it."""
        return self._still

    def render(self, motion: npt.NDArray[np.float32], lids_down: float = 0.0) -> Image:
        """Draw one motion (6 values in mm) and return (1080, 1920, 3) uint8 BGR. `lids_down`: 1 closes the eyes.

        The array belongs to the renderer and is drawn over by the second call after this one.
        """
        if motion.shape != (6,) or not np.isfinite(motion).all():
            raise ValueError("a motion is six finite numbers: open, width, protrusion, jaw, tuck, tongue in mm")
        moved = self._mouth.move(self._grid_x, motion)
        frame = self._buffers[self._next]
        self._next = (self._next + 1) % _BUFFERS
        left, top, right, bottom = self.region
        strip_top, strip_bottom = self._strip
        out = frame[top:bottom, left:right]
        upper = self._sheet(moved, _pull_upper(moved, self._grid_y), 0, strip_bottom)
        lower = self._sheet(moved, _pull_lower(moved, self._grid_y, self._mouth.bottom), strip_top, bottom - top)
        out[:strip_top] = upper[:strip_top]
        out[strip_bottom:] = lower[strip_bottom - strip_top :]
        out[strip_top:strip_bottom] = self._join(upper[strip_top:], lower[: strip_bottom - strip_top], moved, motion)
        # Last, because the rectangle around a tilted mouth can reach over an eye, where the mouth moves nothing.
        self._eyes.draw(frame, lids_down)
        return frame

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
        width = (self.region[2] - self.region[0] if right is None else right) - left
        matrix = self._to_region.copy()
        matrix[:, 2] -= (left, first)
        return cv2.warpAffine(  # type: ignore[return-value]
            grid, matrix, (width, last - first), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def _join(
        self, upper: Image, lower: Image, moved: MovedMouth, motion: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.uint8]:
        """Lay both sheets and the interior together in the strip of rows where lips can be."""
        first, last = self._strip
        target = moved.target
        scale = np.float32(self._placement.scale)
        y = self._grid_y[:, None]
        middle = (target.upper_inner + target.lower_inner) / 2
        side = self._mouth.side(self._grid_x + moved.shift)
        half_px = np.float32((self._mouth.right - self._mouth.left) / 2 * self._placement.scale)
        fields = np.dstack(
            [
                (y - target.upper_inner) * (_upright(target.upper_inner, self._grid_x) * scale),
                (target.lower_inner - y) * (_upright(target.lower_inner, self._grid_x) * scale),
                (middle - y) * scale,
                np.broadcast_to((1 - np.abs(side)) * half_px, (len(self._grid_y), len(side))),
            ]
        )
        fields = self._enlarge(fields.astype(np.float32), first, last)
        soft = np.float32(2 * self._soft)
        above = np.clip(fields[:, :, 2] / soft + np.float32(0.5), 0, 1)
        skin = cv2.blendLinear(upper, lower, above, 1 - above)
        left, top, right, bottom = self._opening_rectangle()
        box = (
            slice(top - self.region[1] - first, bottom - self.region[1] - first),
            slice(left - self.region[0], right - self.region[0]),
        )
        near = fields[box]
        inside = np.clip(near[:, :, 0] / soft + np.float32(0.5), 0, 1)
        inside *= np.clip(near[:, :, 1] / soft + np.float32(0.5), 0, 1)
        inside *= np.clip(near[:, :, 3] / np.float32(4), 0, 1)
        floor = float(target.lower_inner[len(target.lower_inner) // 2])
        painted = self._interior.paint(motion, Edges(near[:, :, 0], near[:, :, 1]), floor)
        shown = skin[box].astype(np.float32)
        shown += (painted - shown) * inside[:, :, None]
        skin[box] = shown.astype(np.uint8)
        return skin  # type: ignore[return-value]

    def _lip_strip(self) -> tuple[int, int]:
        """Rows of the region (first, last) in which the two sheets can meet."""
        x = self._grid_x
        contours = self._mouth.at(x)
        low = float(contours.upper_inner.min()) - _LIP_TRAVEL_UP_MM
        high = float(contours.lower_inner.max()) + _LIP_TRAVEL_DOWN_MM
        box = _bounds(self._placement, (float(x[0]), float(x[-1])), (low, high))
        top, bottom = self.region[1], self.region[3]
        return max(0, box[1] - top), min(bottom - top, box[3] - top)

    def _opening_rectangle(self) -> Rectangle:
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
        left, top, right, _bottom = self.region
        first, last = self._strip
        return max(left, box[0]), max(top + first, box[1]), min(right, box[2]), min(top + last, box[3])


def _grid(mouth: Mouth, scale: float) -> tuple[Plane, Plane]:
    """Columns and rows of the coarse grid, in mm."""
    cell = _CELL_PX / scale
    middle = (mouth.left + mouth.right) / 2
    across = math.ceil(HALF_WIDTH_MM / cell)
    x = middle + np.arange(-across, across + 1, dtype=np.float32) * np.float32(cell)
    top = mouth.top - _ABOVE_NOSE_MM
    rows = math.ceil((mouth.bottom - top) / cell) + 1
    return x.astype(np.float32), (top + np.arange(rows) * cell).astype(np.float32)


def _bounds(placement: Placement, x: tuple[float, float], y: tuple[float, float]) -> Rectangle:
    """The canvas rectangle around a rectangle of the mouth's frame, cut to the canvas."""
    corners = np.array([(a, b, 1.0) for a in x for b in y]) @ placement.matrix().T
    left, top = np.floor(corners.min(axis=0))
    right, bottom = np.ceil(corners.max(axis=0))
    return (
        max(0, int(left)),
        max(0, int(top)),
        min(WIDTH, int(right)),
        min(HEIGHT, int(bottom)),
    )


def _grid_to_canvas(placement: Placement, x: Plane, y: Plane, region: Rectangle) -> npt.NDArray[np.float64]:
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
