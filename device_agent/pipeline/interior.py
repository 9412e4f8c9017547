"""What shows between the lips: teeth, tongue and the dark behind them.

A photo with parted lips brings its own teeth: they are kept where they are, because upper teeth belong to the skull and
do not move with the lip. Everything else is painted once per photo, in the photo's own tones and sharpness, and only
shifted per frame: lower teeth with the jaw, the tongue with jaw and tongue.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.mouth import Line, Mouth, Placement

Plane = npt.NDArray[np.float32]
Layer = tuple[Plane, Plane]
"""Colour (h, w, 3) 0..255 and alpha (h, w) 0..1."""

# BGR, for a face of middling brightness.
_DARK: Final = (20.0, 16.0, 34.0)
_TOOTH: Final = (178.0, 206.0, 220.0)
_TONGUE: Final = (82.0, 80.0, 150.0)
_MIDDLING_LUMA: Final = 150.0
# Less colour than this (mean distance from the mean chroma, 8-bit Lab) is a black-and-white or sepia photo.
_MONOCHROME: Final = 3.0

# Upper teeth end this far below the line where the lips meet; lower teeth begin a little above that.
_UPPER_EDGE_MM: Final = 2.0
_OVERBITE_MM: Final = 1.4
# How much of the tongue's height shows above the lower lip: per mm of opening, per mm that it is raised.
_TONGUE_SEEN: Final = 0.28
_TONGUE_RISES: Final = 0.35
# Half widths of the teeth from the middle outwards, as they appear from the front.
_UPPER_TEETH_MM: Final = (0.0, 8.2, 14.4, 20.0, 23.5)
_LOWER_TEETH_MM: Final = (0.0, 5.2, 10.6, 16.2, 20.0)
# The light that pushed-out lips take from the teeth; what is left is warm, as skin lets red through.
_IN_SHADE: Final = np.array((0.24, 0.2, 0.12), np.float32)
_CHEEKS: Final = (50, 280, 205, 425)


@dataclass(frozen=True)
class Edges:
    """Signed distances in canvas pixels, positive inside the opening: below the upper lip, above the lower lip."""

    below_upper: Plane
    above_lower: Plane


class Interior:
    """The inside of one mouth, painted for one rectangle of the canvas."""

    def __init__(
        self,
        canvas: Image,
        points: Points,
        mouth: Mouth,
        placement: Placement,
        rectangle: tuple[int, int, int, int],
        softness: float,
    ) -> None:
        """`rectangle` is (left, top, right, bottom) in canvas pixels; `softness` the photo's blur in pixels."""
        left, top, right, bottom = rectangle
        self._top, self._width = top, right - left
        self._scale = placement.scale
        self._down = placement.matrix()[:, 1] / placement.scale  # one step down the face, in canvas pixels
        x, y = _mouth_coordinates(placement, rectangle)
        tones = _Tones(canvas, points)
        self._in_shade = _IN_SHADE if tones.coloured else np.full(3, _IN_SHADE.mean(), np.float32)
        closed = mouth.closed_line(x.reshape(-1)).reshape(x.shape)
        side = np.abs(mouth.side(x.reshape(-1)).reshape(x.shape))
        # Teeth recede from the light towards the corners.
        self._side = np.clip(1.12 - 0.72 * side**2, 0.25, 1.0).astype(np.float32)

        self._dark = np.empty((*x.shape, 3), np.float32)
        self._dark[:] = tones(_DARK)

        centre = (mouth.left + mouth.right) / 2
        edge = closed + np.float32(_UPPER_EDGE_MM)
        if mouth.photo_gap > 0:
            self._upper = _split(_photo_teeth(canvas[top:bottom, left:right], mouth, placement, rectangle, x, y))
            _, lower_edge = mouth.opening(x.reshape(-1))
            edge = np.maximum(edge, lower_edge.reshape(x.shape))
        else:
            upper = _teeth(x - centre, edge - y, _UPPER_TEETH_MM, tones(_TOOTH), 9.5)
            upper[:, :, :3] *= self._side[:, :, None]
            self._upper = _split(_blurred(upper, softness))
        top_edge = edge - np.float32(_OVERBITE_MM)
        lower = _teeth(x - centre, y - top_edge - 0.02 * (x - centre) ** 2, _LOWER_TEETH_MM, tones(_TOOTH) * 0.72, 8.0)
        self._lower = _split(_blurred(lower, softness))
        self._tongue = _split(_tongue(x - centre, y, tones(_TONGUE)))

    def paint(self, motion: npt.NDArray[np.float32], edges: Edges, floor_mm: float, rows: tuple[int, int]) -> Plane:
        """(rows, w, 3) float32: the rectangle's canvas rows `rows` (first, last) as they would look without lips.

        `motion`: 6 values in mm; `edges` of those rows; `floor_mm`: where the lower lip's edge is in the middle, in
        the mouth's frame.
        """
        opening, protrusion, jaw, raised = (max(0.0, float(motion[index])) for index in (0, 2, 3, 5))
        part = slice(rows[0] - self._top, rows[1] - self._top)
        picture = self._dark[part]
        seen = _TONGUE_SEEN * opening + _TONGUE_RISES * raised
        picture = _laid(picture, *self._shifted(self._tongue, floor_mm - seen, part))
        picture = _laid(picture, *self._shifted(self._lower, jaw, part))
        # Lips throw a shadow inwards: deep under the upper one, shallow above the lower one.
        below = edges.below_upper / np.float32(self._scale)
        shade = np.clip(below / np.float32(4), 0, 1) * np.float32(0.5) + np.float32(0.5)
        shade *= np.clip(edges.above_lower / np.float32(1.6 * self._scale), 0, 1) * np.float32(0.3) + np.float32(0.7)
        # Pushed-out lips keep the light off the teeth.
        hidden = np.float32(min(1.0, protrusion / 7))
        lit = 1 - hidden * self._in_shade
        shade *= self._side[part]
        picture = np.asarray(cv2.multiply(picture, cv2.merge([shade, shade, shade])), np.float32)
        # Teeth stand in front, in better light; only the upper lip shades them.
        lit_by = np.clip(below / np.float32(2), 0, 1) * np.float32(0.25) + np.float32(0.75)
        colour, alpha = self._upper
        colour = np.asarray(cv2.multiply(colour[part], cv2.merge([lit_by * each for each in lit])), np.float32)
        return _laid(picture, colour, alpha[part] * (1 - np.float32(0.25) * hidden))

    def _shifted(self, layer: Layer, down_mm: float, part: slice) -> Layer:
        shift = self._down * (down_mm * self._scale)
        matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1] - part.start]])
        size = (self._width, part.stop - part.start)
        colour, alpha = (
            np.asarray(
                cv2.warpAffine(each, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
            )
            for each in layer
        )
        return colour, alpha


class _Tones:
    """Turns a colour of the palette into one that this photo could hold."""

    def __init__(self, canvas: Image, points: Points) -> None:
        samples = []
        for index in _CHEEKS:
            x, y = (round(float(value)) for value in points[index, :2])
            x, y = min(max(x, 8), canvas.shape[1] - 9), min(max(y, 8), canvas.shape[0] - 9)
            samples.append(canvas[y - 8 : y + 9, x - 8 : x + 9].reshape(-1, 3))
        skin = np.concatenate(samples).astype(np.float32).mean(axis=0)
        self._luma = max(30.0, _luma(skin))
        small = cv2.resize(canvas, (240, 135), interpolation=cv2.INTER_AREA)
        chroma = cv2.cvtColor(small, cv2.COLOR_BGR2LAB)[:, :, 1:].reshape(-1, 2).astype(np.float32)
        spread = float(np.abs(chroma - chroma.mean(axis=0)).mean())
        self.coloured = spread >= _MONOCHROME
        self._tint = skin / self._luma if not self.coloured else None

    def __call__(self, colour: tuple[float, float, float]) -> Plane:
        lit = np.array(colour, np.float32) * np.float32(min(1.25, (self._luma / _MIDDLING_LUMA) ** 0.8))
        if self._tint is not None:
            lit = np.float32(_luma(lit)) * self._tint
        return np.asarray(np.clip(lit, 0, 250), np.float32)


def _blurred(layer: Plane, softness: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), max(softness, 0.8)), np.float32)


def _luma(colour: Plane) -> float:
    return float(colour[0] * 0.114 + colour[1] * 0.587 + colour[2] * 0.299)


def _mouth_coordinates(placement: Placement, rectangle: tuple[int, int, int, int]) -> tuple[Plane, Plane]:
    """x and y in millimetres for every pixel of the rectangle, both (h, w)."""
    left, top, right, bottom = rectangle
    grid_x, grid_y = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
    flat = np.column_stack([grid_x.reshape(-1), grid_y.reshape(-1)]).astype(np.float32)
    local = placement.to_mouth(flat).astype(np.float32)
    return local[:, 0].reshape(grid_x.shape), local[:, 1].reshape(grid_x.shape)


def _photo_teeth(
    picture: Image,
    mouth: Mouth,
    placement: Placement,
    rectangle: tuple[int, int, int, int],
    x: Plane,
    y: Plane,
) -> Plane:
    """The photo's own opening as a layer (h, w, 4), its topmost row continued upwards under the lip."""
    columns: Line = x.reshape(-1)
    upper_edge, lower_edge = (edge.reshape(x.shape) for edge in mouth.opening(columns))
    # Well inside both lips: their blurred edges must not stay behind on the teeth.
    inset = np.minimum(np.float32(0.9), 0.25 * (lower_edge - upper_edge))
    first, last = upper_edge + inset, lower_edge - inset
    inside = np.clip(y, first, last)
    matrix = placement.matrix()
    map_x = matrix[0, 0] * x + matrix[0, 1] * inside + matrix[0, 2] - rectangle[0]
    map_y = matrix[1, 0] * x + matrix[1, 1] * inside + matrix[1, 2] - rectangle[1]
    colour = cv2.remap(
        picture,
        map_x.astype(np.float32),
        map_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float32)
    # The photo does not show where the teeth end behind the lower lip: they fade out a little below it.
    colour *= np.clip(1 - 0.25 * (y - last), 0.6, 1)[:, :, None]
    alpha = np.clip((last + 2.2 - y) / 1.4, 0, 1)
    side = np.abs(mouth.side(columns).reshape(x.shape))
    alpha *= np.clip((1.0 - side) / 0.08, 0, 1)
    return np.dstack([colour, alpha.astype(np.float32)])


def _teeth(x: Plane, depth: Plane, borders: tuple[float, ...], colour: Plane, length: float) -> Plane:
    """A row of teeth as a layer (h, w, 4). `depth` is mm from the biting edge into the tooth."""
    size = np.abs(x)
    alpha = np.clip(depth / 0.5, 0, 1) * np.clip((borders[-1] - size) / 2.0, 0, 1)
    light = np.ones_like(x)
    for border in borders:
        # The gap between two teeth, wider at the biting edge where their corners are round.
        half = 0.22 + 0.5 * np.clip(1 - depth / 1.2, 0, 1)
        light *= 1 - 0.3 * np.clip(1 - np.abs(size - border) / half, 0, 1)
        alpha *= 1 - np.clip(1 - np.abs(size - border) / 0.7, 0, 1) * np.clip(1 - depth / 0.9, 0, 1)
    light *= 1 - 0.25 * np.clip(depth / length, 0, 1)
    return np.dstack([colour[None, None, :] * light[:, :, None], alpha]).astype(np.float32)


def _tongue(x: Plane, depth: Plane, colour: Plane) -> Plane:
    """The tongue's back and tip as a layer (h, w, 4). `depth` is mm below its top in the middle."""
    below = depth - 0.014 * x**2
    alpha = np.clip(below / 3.0 + 0.2, 0, 1) * np.clip((20 - np.abs(x)) / 8, 0, 1)
    light = 0.5 + 0.5 * np.clip(below / 5, 0, 1) - 0.12 * np.exp(-((x / 1.8) ** 2))
    return np.dstack([colour[None, None, :] * light[:, :, None], alpha]).astype(np.float32)


def _laid(picture: Plane, colour: Plane, alpha: Plane) -> Plane:
    """A layer over `picture`."""
    return np.asarray(cv2.blendLinear(colour, picture, alpha, 1 - alpha), np.float32)


def _split(layer: Plane) -> Layer:
    """(h, w, 4) in two, each in one piece."""
    return np.ascontiguousarray(layer[:, :, :3]), np.ascontiguousarray(layer[:, :, 3])
