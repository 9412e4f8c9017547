"""Are the lips in the photo parted? FaceMesh leaves a gap of 2 to 3 mm between closed lips; the pixels know better."""

from typing import Final

import cv2
import numpy as np

from device_agent.pipeline.face import Image
from device_agent.pipeline.mouth import Line, Mouth, Placement

# Wider than this, FaceMesh is right whatever the colours say; narrower than that, the lips touch.
_SURELY_PARTED_MM: Final = 4.2
_TOUCHING_MM: Final = 0.8
# Teeth are less red than lips, or without any colour brighter; the dark behind parted lips is far darker.
_TEETH_BRIGHTER: Final = 1.1
_TEETH_LESS_RED: Final = 5.0
_CAVITY_DARKER: Final = 0.6
_COLOURLESS: Final = 3.0
_SEARCH_MM: Final = 1.5


def find_seam(canvas: Image, mouth: Mouth, placement: Placement) -> tuple[Line, Line] | None:
    """The line where closed lips touch, as x and y in mm from corner to corner; None where the lips are parted."""
    if mouth.photo_gap >= _SURELY_PARTED_MM:
        return None
    x = np.linspace(mouth.left, mouth.right, 97, dtype=np.float32)
    upper, lower = mouth.opening(x)
    contours = mouth.at(x)
    if mouth.photo_gap > _TOUCHING_MM:
        middle = np.abs(mouth.side(x)) < 0.6
        between = _sample(canvas, placement, x, _between(upper, lower, 0.25, 0.75))[middle]
        lips = np.concatenate(
            [
                _sample(canvas, placement, x, _between(contours.upper_outer, upper, 0.3, 0.8))[middle],
                _sample(canvas, placement, x, _between(lower, contours.lower_outer, 0.2, 0.7))[middle],
            ]
        )
        if _shows_inside(between.reshape(-1, 3), lips.reshape(-1, 3)):
            return None
    return x, _darkest_line(canvas, mouth, placement, x)


def _shows_inside(between: np.ndarray, lips: np.ndarray) -> bool:
    """Whether pixels between the lips are teeth or darkness; both (n, 3) float32 8-bit Lab."""
    bright, bright_lips = float(np.median(between[:, 0])), float(np.median(lips[:, 0]))
    red, red_lips = float(np.median(between[:, 1])), float(np.median(lips[:, 1]))
    if bright < _CAVITY_DARKER * bright_lips:
        return True
    if red < red_lips - _TEETH_LESS_RED:
        return True
    colourless = float(np.abs(lips[:, 1:] - 128).mean()) < _COLOURLESS
    return colourless and bright > _TEETH_BRIGHTER * bright_lips


def _darkest_line(canvas: Image, mouth: Mouth, placement: Placement, x: Line) -> Line:
    """The dark line between closed lips: a smooth curve through the darkest pixel of each column."""
    upper, lower = mouth.opening(x)
    rows = _between(upper - np.float32(_SEARCH_MM), lower + np.float32(_SEARCH_MM), 0, 1, count=33)
    bright = _sample(canvas, placement, x, rows)[:, :, 0]
    dark = np.maximum(0, np.median(bright, axis=1, keepdims=True) - bright)
    # Near the landmarks' own middle a column without a clear line still has a sensible answer.
    prior = (upper + lower) / 2
    weight = dark**2 * np.exp(-(((rows - prior[:, None]) / 2.0) ** 2)) + 1.0
    y = (weight * rows).sum(axis=1) / weight.sum(axis=1)
    side = mouth.side(x)
    trust = 0.3 + dark.max(axis=1)
    fitted = np.polynomial.Polynomial.fit(side, y - prior, 3, w=trust)(side)
    # The ends stay where the corners are.
    return np.asarray(prior + fitted * np.clip((1 - np.abs(side)) / 0.15, 0, 1), np.float32)


def _between(first: Line, last: Line, start: float, end: float, count: int = 7) -> np.ndarray:
    """(columns, count): rows at even shares `start`..`end` of the way from `first` to `last`."""
    shares = np.linspace(start, end, count, dtype=np.float32)
    return np.asarray(first[:, None] + shares[None, :] * (last - first)[:, None], np.float32)


def _sample(canvas: Image, placement: Placement, x: Line, y: np.ndarray) -> np.ndarray:
    """(columns, rows, 3) float32 8-bit Lab at millimetres x (columns,) and y (columns, rows)."""
    matrix = placement.matrix()
    wide = np.broadcast_to(x[:, None], y.shape)
    map_x = (matrix[0, 0] * wide + matrix[0, 1] * y + matrix[0, 2]).astype(np.float32)
    map_y = (matrix[1, 0] * wide + matrix[1, 1] * y + matrix[1, 2]).astype(np.float32)
    colour = cv2.remap(canvas, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(colour, cv2.COLOR_BGR2LAB), np.float32)
