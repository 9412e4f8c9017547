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
_CELL_PX: Final = 16


class Head:
    """Moves what lies in `box` of one portrait's canvas."""

    def __init__(self, points: Points, placement: Placement, inside: tuple[Box, ...]) -> None:
        """`points` (468, 3) in canvas pixels; the box holds all of `inside`."""
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        middle = (low + high) / 2
        reach = (high - low) * (_REACH_X, _REACH_Y)
        corners = [*(middle - reach), *(middle + reach)]
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
        self._weight: npt.NDArray[np.float64] = 1 - far * far * (3 - 2 * far)

    def moved(self, picture: Image, sway: Sway) -> Image:
        """The BGR picture of the box, moved by `sway` (mm)."""
        shift = self._turn @ np.array(sway)
        map_x, map_y = (
            self._fine(picture, grid) for grid in (self._x - shift[0] * self._weight, self._y - shift[1] * self._weight)
        )
        moved = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.uint8)

    def _fine(self, picture: Image, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """The grid's values at each pixel of the picture."""
        size = (grid.shape[1] * _CELL_PX, grid.shape[0] * _CELL_PX)
        fine = cv2.resize(grid.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        part = fine[_CELL_PX : _CELL_PX + picture.shape[0], _CELL_PX : _CELL_PX + picture.shape[1]]
        return np.asarray(part, np.float32)
