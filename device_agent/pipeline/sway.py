"""The head's sway: a smooth warp around the face that fades to nothing before it reaches the still picture."""

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.pipeline.acting import Sway
from device_agent.pipeline.canvas import Box
from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.framing import HEIGHT, WIDTH
from device_agent.pipeline.mouth import Placement

# The warp's reach from the middle of the face, in face widths and heights (hairline to chin).
_REACH_X: Final = 1.15
_REACH_Y: Final = 1.05
# Within this share of the reach everything moves as one.
_RIGID: Final = 0.4
# Beside an edge of the photo that can be seen: the share of the reach over which the warp fades, and, as a share of
# that, how far from the edge nothing moves.
_EDGE_FADE: Final = 0.2
_EDGE_STILL: Final = 0.15
_CELL_PX: Final = 16

Grid = npt.NDArray[np.float64]


class Head:
    """Moves what lies in `box` of one portrait's canvas."""

    def __init__(
        self,
        points: Points,
        placement: Placement,
        inside: tuple[Box, ...],
        extent: tuple[float, float, float, float],
    ) -> None:
        """`points` (468, 3) in canvas pixels; the box holds all of `inside`; `extent` is where the photo lies."""
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        middle = (low + high) / 2
        reach = (high - low) * (_REACH_X, _REACH_Y)
        corners = [*np.maximum(middle - reach, extent[:2]), *np.minimum(middle + reach, extent[2:])]
        self.box = Box(
            max(0, min(math.floor(corners[0]), *(box.left for box in inside))),
            max(0, min(math.floor(corners[1]), *(box.top for box in inside))),
            min(WIDTH, max(math.ceil(corners[2]), *(box.right for box in inside))),
            min(HEIGHT, max(math.ceil(corners[3]), *(box.bottom for box in inside))),
        ).even()
        self._turn = placement.matrix()[:, :2]
        # Coordinates of the box's pixels on a coarse grid, one cell more on each side so that enlarging it is exact.
        columns, rows = (
            (np.arange(-1, math.ceil(size / _CELL_PX) + 1) + 0.5) * _CELL_PX - 0.5
            for size in (self.box.right - self.box.left, self.box.bottom - self.box.top)
        )
        self._x, self._y = np.meshgrid(columns, rows)
        across = (self._x + self.box.left - middle[0]) / reach[0]
        down = (self._y + self.box.top - middle[1]) / reach[1]
        far = np.clip((np.hypot(across, down) - _RIGID) / (1 - _RIGID), 0, 1)
        near = np.minimum(1 - far, _from_edges(self._x + self.box.left, self._y + self.box.top, extent, reach))
        self._weight: Grid = near * near * (3 - 2 * near)

    def moved(self, picture: Image, sway: Sway) -> Image:
        """The BGR picture of the box, moved by `sway` (mm)."""
        shift = self._turn @ np.array(sway)
        map_x, map_y = (
            self._fine(picture, grid) for grid in (self._x - shift[0] * self._weight, self._y - shift[1] * self._weight)
        )
        moved = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.uint8)

    def _fine(self, picture: Image, grid: Grid) -> npt.NDArray[np.float32]:
        """The grid's values at each pixel of the picture."""
        size = (grid.shape[1] * _CELL_PX, grid.shape[0] * _CELL_PX)
        fine = cv2.resize(grid.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        part = fine[_CELL_PX : _CELL_PX + picture.shape[0], _CELL_PX : _CELL_PX + picture.shape[1]]
        return np.asarray(part, np.float32)


def _from_edges(x: Grid, y: Grid, extent: tuple[float, float, float, float], reach: Grid) -> Grid:
    """0 at edges of the photo that can be seen, 1 well inside: a straight edge that bends would give the trick away."""
    left, top, right, bottom = extent
    fade_x, fade_y = reach * _EDGE_FADE
    inside = np.ones_like(x)
    for seen, distance in (
        (left > 0, (x - left) / fade_x),
        (right < WIDTH, (right - x) / fade_x),
        (top > 0, (y - top) / fade_y),
        (bottom < HEIGHT, (bottom - y) / fade_y),
    ):
        if seen:
            inside = np.minimum(inside, np.clip(distance - _EDGE_STILL, 0, 1))
    return inside
