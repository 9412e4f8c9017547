"""The mouth's shape: lip and chin contours of one face, and where a motion moves them.

Everything here is in the *mouth's own frame*: millimetres, x along the line between the eyes, y down the face, the
origin between the mouth's corners. A contour is one y per x. Each motion gives five moved contours (upper outer, upper
inner, lower inner, lower outer, chin); the renderer stretches skin between them. Upper and lower lip are two sheets
that part at the inner lips, so that a smile with teeth is never torn.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from device_agent.pipeline.face import Points

Line = npt.NDArray[np.float32]

MOUTH_MM: Final = 50.0

# FaceMesh points from image left to image right.
_UPPER_OUTER: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_UPPER_INNER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER_INNER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
_LOWER_OUTER: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_CHIN_LINE: Final = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
_NOSE_BASE: Final = 2
_EYES: Final = (33, 263)

# Closing an open photo: the lower lip travels further than the upper one.
_UPPER_CLOSES: Final = 0.4
# Opening: the share of the aperture that the upper lip gives.
_UPPER_OPENS: Final = 0.27
# What follows an inner lip edge: the outer edge of the same lip.
_UPPER_FOLLOWS: Final = 0.45
_LOWER_FOLLOWS: Final = 0.62
# A jaw swings back as it drops, so from the front the chin seems to move less.
_CHIN_FOLLOWS: Final = 0.75

HALF_WIDTH_MM: Final = 50.0
_BELOW_CHIN_MM: Final = 24.0


@dataclass(frozen=True)
class Placement:
    """The mouth's frame on the canvas: origin (pixels), pixels per millimetre, turn (radians)."""

    x: float
    y: float
    scale: float
    angle: float

    def matrix(self) -> npt.NDArray[np.float64]:
        """(2, 3): millimetres in the mouth's frame to canvas pixels."""
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        return np.array([[cos, -sin, self.x], [sin, cos, self.y]])

    def to_mouth(self, points: Points) -> npt.NDArray[np.float64]:
        """(n, 2) canvas pixels to millimetres."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        moved = points[:, :2].astype(np.float64) - (self.x, self.y)
        turned = moved @ np.array([[cos, -sin], [sin, cos]])
        return np.asarray(turned / self.scale)


@dataclass(frozen=True)
class Contours:
    """Five lines over the same columns, y in millimetres."""

    upper_outer: Line
    upper_inner: Line
    lower_inner: Line
    lower_outer: Line
    chin: Line


@dataclass(frozen=True)
class MovedMouth:
    """One motion applied: `shift` is how far left each column's skin comes from (mm, add to x to sample the photo)."""

    source: Contours
    target: Contours
    shift: Line


class Mouth:
    """The contours of one face at rest, sampled at `columns` (mm), and `move` to apply a motion."""

    def __init__(self, points: Points, placement: Placement, blur_mm: float = 0.0) -> None:
        """`blur_mm`: how far the photo smears an edge; where teeth show, lips are cut that much inside their edge."""
        local = placement.to_mouth(points)
        self._blur = np.float32(blur_mm)
        self._upper_outer = Curve(local, _UPPER_OUTER)
        self._upper_inner = Curve(local, _UPPER_INNER)
        self._lower_inner = Curve(local, _LOWER_INNER)
        self._lower_outer = Curve(local, _LOWER_OUTER)
        self._chin = Curve(local, _CHIN_LINE, smooth=6.0)
        self.left = float(local[_UPPER_INNER[0], 0])
        self.right = float(local[_UPPER_INNER[-1], 0])
        self.top = float(local[_NOSE_BASE, 1])
        self.bottom = float(local[152, 1]) + _BELOW_CHIN_MM
        upper, lower = self.opening(np.array([(self.left + self.right) / 2], np.float32))
        self.photo_gap = float((lower - upper)[0])

    def close(self, x: Line, y: Line) -> None:
        """The photo's lips touch along this line (mm): both inner edges lie on it, whatever the landmarks say."""
        self._upper_inner = self._lower_inner = Curve(np.column_stack([x, y]), tuple(range(len(x))))
        self.photo_gap = 0.0

    def at(self, x: Line) -> Contours:
        """The photo's own contours at columns `x`."""
        inner_u, inner_l = self.opening(x)
        cut = np.minimum(self._blur, (inner_l - inner_u) / 3)
        inner_u, inner_l = inner_u - cut, inner_l + cut
        outer_u = np.minimum(self._upper_outer(x), inner_u)
        outer_l = np.maximum(self._lower_outer(x), inner_l)
        return Contours(outer_u, inner_u, inner_l, outer_l, np.maximum(self._chin(x), outer_l + 4))

    def opening(self, x: Line) -> tuple[Line, Line]:
        """The photo's inner lip edges, upper and lower, exactly where the landmarks have them."""
        upper = self._upper_inner(x)
        return upper, np.maximum(upper, self._lower_inner(x))

    def closed_line(self, x: Line) -> Line:
        """Where the lips meet when the mouth is closed."""
        photo = self.at(x)
        return photo.upper_inner + np.float32(_UPPER_CLOSES) * (photo.lower_inner - photo.upper_inner)

    def side(self, x: Line) -> Line:
        """-1 at the left corner, 0 in the middle, 1 at the right corner."""
        middle, half = (self.left + self.right) / 2, (self.right - self.left) / 2
        return (x - np.float32(middle)) / np.float32(half)

    def move(self, x: Line, motion: npt.NDArray[np.float32]) -> MovedMouth:
        """Contours for the columns `x` (mm, where they will be seen) under `motion`: 6 values in mm."""
        opening, width, protrusion, jaw, tuck, _tongue = (float(value) for value in motion)
        spread = width / 2 - 0.1 * max(protrusion, 0.0)
        shift = -self._spread(x, spread)
        source_x = x + shift
        photo = self.at(source_x)
        side = self.side(source_x)
        # Round at the middle, straight down to the corners: an aperture's outline.
        # Rounded lips stay shut towards the corners.
        pursed = np.float32(1 + 0.05 * max(protrusion, 0.0))
        bow = np.clip(1 - np.abs(side * pursed) ** 2.4, 0, 1).astype(np.float32)
        wide = _bell(side / np.float32(2.1))
        gap = photo.lower_inner - photo.upper_inner
        push, tucked = max(protrusion, 0.0), max(tuck, 0.0)
        aperture = max(opening, 0.0)
        press = max(-opening, 0.0)
        drop = np.float32(0.12 * jaw) * wide  # the corners follow the jaw a little
        up_inner = np.float32(_UPPER_CLOSES) * gap + bow * np.float32(-_UPPER_OPENS * aperture - 0.2 * tucked)
        low_inner = np.float32(_UPPER_CLOSES - 1) * gap + bow * np.float32((1 - _UPPER_OPENS) * aperture - 0.3 * tucked)
        up_outer = np.float32(_UPPER_FOLLOWS) * up_inner + bow * np.float32(-0.22 * push + 0.3 * press)
        low_outer = (
            np.float32(_LOWER_FOLLOWS) * low_inner
            + bow * np.float32(0.28 * push - 0.3 * press - 0.45 * tucked + 0.2 * jaw)
            + drop
        )
        chin = np.float32(_CHIN_FOLLOWS * jaw) * _bell(
            (source_x - np.float32((self.left + self.right) / 2)) / np.float32(HALF_WIDTH_MM - 2)
        )

        upper_inner = photo.upper_inner + up_inner + drop
        lower_inner = np.maximum(photo.lower_inner + low_inner + drop, upper_inner)
        # Never thinner than half of the photo's lip: a lip rolls in, it does not vanish.
        upper_outer = np.minimum(
            photo.upper_outer + up_outer + drop,
            upper_inner - np.float32(0.5) * (photo.upper_inner - photo.upper_outer),
        )
        lower_outer = np.maximum(
            photo.lower_outer + low_outer,
            lower_inner + np.float32(0.5) * (photo.lower_outer - photo.lower_inner),
        )
        target = Contours(
            upper_outer,
            upper_inner,
            lower_inner,
            lower_outer,
            np.maximum(photo.chin + chin, lower_outer + 3),
        )
        return MovedMouth(photo, target, shift)

    def _spread(self, x: Line, corner: float) -> Line:
        """How far skin seen at `x` has moved outwards: `corner` mm at the corners, nothing further out."""
        middle, half = (self.left + self.right) / 2, (self.right - self.left) / 2
        t = (x - np.float32(middle)) / np.float32(half + corner)
        size = np.abs(t)
        inside = np.sin(np.minimum(size, 1) * np.float32(math.pi / 2))
        outside = _smooth(np.clip((np.float32(2.1) - size) / np.float32(1.1), 0, 1))
        return np.asarray(np.sign(t) * np.minimum(inside, outside) * np.float32(corner), np.float32)


def place_mouth(points: Points) -> Placement:
    """Find the mouth's frame from canvas landmarks (468, 3). The depth z keeps the scale right on a turned head."""
    left, right = points[61].astype(np.float64), points[291].astype(np.float64)
    eyes = points[_EYES[1]].astype(np.float64) - points[_EYES[0]].astype(np.float64)
    middle = (left + right) / 2
    width = float(np.linalg.norm(right - left))
    return Placement(float(middle[0]), float(middle[1]), width / MOUTH_MM, math.atan2(eyes[1], eyes[0]))


class Curve:
    """A line through landmarks, sampled finely once and read by columns; level beyond its ends."""

    _STEP: Final = 0.25

    def __init__(self, local: npt.NDArray[np.float64], indices: tuple[int, ...], smooth: float = 1.2) -> None:
        knots = local[list(indices)]
        knots = knots[np.argsort(knots[:, 0], kind="stable")]
        first, last = float(knots[0, 0]), float(knots[-1, 0])
        count = max(2, math.ceil((last - first) / self._STEP) + 1)
        self._x = np.linspace(first, last, count).astype(np.float32)
        fine = np.interp(self._x, knots[:, 0], knots[:, 1])
        radius = max(1, round(smooth / self._STEP))
        kernel = np.hanning(2 * radius + 3)[1:-1]
        # Odd reflection keeps both ends where the landmarks put them.
        before = 2 * fine[0] - fine[radius:0:-1] if count > radius else np.full(radius, fine[0])
        after = 2 * fine[-1] - fine[-2 : -2 - radius : -1] if count > radius else np.full(radius, fine[-1])
        padded = np.concatenate([before, fine, after])
        self._y = np.convolve(padded, kernel / kernel.sum(), mode="valid").astype(np.float32)

    def __call__(self, x: Line) -> Line:
        return np.interp(x, self._x, self._y).astype(np.float32)


def _smooth(t: Line) -> Line:
    """Smoothstep of values already in 0..1."""
    return t * t * (3 - 2 * t)


def _bell(t: Line) -> Line:
    """1 at 0, falling smoothly to 0 at 1 and beyond."""
    return _smooth(np.clip(1 - np.abs(t), 0, 1).astype(np.float32))
