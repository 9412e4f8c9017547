"""Composition: the photo laid on a 1920 x 1080 canvas, head and shoulders filling the height."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from device_agent.pipeline.face import Image, Points

WIDTH: Final = 1920
HEIGHT: Final = 1080

# Hairline to chin, as a share of the canvas height: with hair and shoulders this fills the picture.
_FACE_SHARE: Final = 0.42
_LARGEST_FACE_SHARE: Final = 0.8
# The middle of the face sits a little above the middle of the canvas.
_FACE_HEIGHT: Final = 0.46
# Beyond this, upscaling shows nothing but blur.
_MAX_ZOOM: Final = 4.5
_FOREHEAD: Final = 10
_CHIN: Final = 152


@dataclass(frozen=True)
class Framed:
    """The still picture and the face in it.

    `canvas` is (1080, 1920, 3) uint8 BGR; `points` (468, 3) float32 in canvas pixels; `zoom` is canvas pixels per
    photo pixel; `extent` is where the photo lies, (left, top, right, bottom) in canvas pixels.
    """

    canvas: Image
    points: Points
    zoom: float
    extent: tuple[float, float, float, float]


def frame_portrait(photo: Image, landmarks: Points) -> Framed:
    """Crop and enlarge `photo` around the face; where it does not reach, extend it by a blurred copy of itself."""
    height, width = photo.shape[:2]
    top, bottom = landmarks[_FOREHEAD], landmarks[_CHIN]
    face = max(1.0, float(np.hypot(*(bottom[:2] - top[:2]))))
    # A close-up fills the height with the face rather than float in its own blur.
    wanted = max(_FACE_SHARE * HEIGHT / face, min(HEIGHT / height, _LARGEST_FACE_SHARE * HEIGHT / face))
    zoom = min(wanted, _MAX_ZOOM)
    centre = (landmarks[:, :2].min(axis=0) + landmarks[:, :2].max(axis=0)) / 2
    left = _offset((float(centre[0]) + 0.5) * zoom - 0.5, width * zoom, WIDTH, 0.5)
    up = _offset((float(centre[1]) + 0.5) * zoom - 0.5, height * zoom, HEIGHT, _FACE_HEIGHT)

    source = photo
    corner = (zoom - 1) / 2  # pixel centres, not pixel corners, carry the coordinates
    matrix = np.array([[zoom, 0, left + corner], [0, zoom, up + corner]])
    if zoom < 1:  # shrink with averaging first; warpAffine alone would alias
        source = np.asarray(cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = np.array([[1, 0, left], [0, 1, up]], np.float64)
    points = landmarks * np.float32(zoom) + np.array([left + corner, up + corner, 0], np.float32)
    canvas = cv2.warpAffine(
        source,
        matrix,
        (WIDTH, HEIGHT),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    cover = _cover(source.shape[1], source.shape[0], matrix)
    if float(cover.min()) < 1:
        alpha = cover[:, :, None]
        canvas = (canvas * alpha + _backdrop(photo) * (1 - alpha)).astype(np.uint8)
    extent = (left, up, left + width * zoom, up + height * zoom)
    return Framed(np.ascontiguousarray(canvas), points.astype(np.float32), zoom, extent)


def _offset(face: float, photo: float, canvas: float, share: float) -> float:
    """Where the photo's left (or top) edge goes: the face at `share`, but no edge shown that could be hidden."""
    wanted = canvas * share - face
    if photo >= canvas:
        return min(0.0, max(canvas - photo, wanted))
    return max(0.0, min(canvas - photo, wanted))


def _cover(width: int, height: int, matrix: np.ndarray) -> np.ndarray:
    """(1080, 1920) float32 0..1: where the photo lies, fading over a few pixels at edges inside the canvas."""
    fade = 24.0
    zoom_x, zoom_y = matrix[0, 0], matrix[1, 1]
    left, up = matrix[0, 2] - (zoom_x - 1) / 2, matrix[1, 2] - (zoom_y - 1) / 2
    x = np.arange(WIDTH, dtype=np.float32)
    y = np.arange(HEIGHT, dtype=np.float32)
    right, down = left + width * zoom_x, up + height * zoom_y
    across = np.ones(WIDTH, np.float32)
    along = np.ones(HEIGHT, np.float32)
    if left > 0.5:
        across *= np.clip((x - left) / fade, 0, 1)
    if right < WIDTH - 0.5:
        across *= np.clip((right - 1 - x) / fade, 0, 1)
    if up > 0.5:
        along *= np.clip((y - up) / fade, 0, 1)
    if down < HEIGHT - 0.5:
        along *= np.clip((down - 1 - y) / fade, 0, 1)
    return along[:, None] * across[None, :]


def _backdrop(photo: Image) -> np.ndarray:
    """The photo enlarged to cover the canvas, blurred beyond recognition and a little darker; float32."""
    height, width = photo.shape[:2]
    zoom = max(WIDTH / 8 / width, HEIGHT / 8 / height)
    size = (max(WIDTH // 8, round(width * zoom)), max(HEIGHT // 8, round(height * zoom)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    x, y = (size[0] - WIDTH // 8) // 2, (size[1] - HEIGHT // 8) // 2
    small = small[y : y + HEIGHT // 8, x : x + WIDTH // 8]
    small = cv2.GaussianBlur(small, (0, 0), 9)
    large = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return large.astype(np.float32) * np.float32(0.72)
