"""The picture as it is shown: I420 frames of 1920 x 1080, and how BGR rectangles get into them.

A portrait is still almost everywhere, so a frame is never converted as a whole after the first one. A frame is one
(1620, 1920) uint8 array: 1080 rows of brightness, then both colour planes at half size, as H.264 and displays want it
(BT.601, 16..235).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.pipeline.face import Image
from device_agent.pipeline.framing import HEIGHT, WIDTH

Frame = npt.NDArray[np.uint8]

FPS: Final = 25
FRAME_SHAPE: Final = (HEIGHT * 3 // 2, WIDTH)
FRAME_BYTES: Final = FRAME_SHAPE[0] * FRAME_SHAPE[1]

# BT.601 in studio range, from 8-bit B, G, R.
_CHROMA: Final = np.array([[0.439, -0.291, -0.148, 128.0], [-0.071, -0.368, 0.439, 128.0]], np.float32)


class Box(NamedTuple):
    """A rectangle of the canvas; `even` ones can be cut out of the colour planes as well."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for a (1080, 1920, ...) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def even(self) -> "Box":
        """The smallest rectangle around this one whose sides are even numbers, within the canvas."""
        return Box(
            self.left // 2 * 2,
            self.top // 2 * 2,
            min(WIDTH, -(-self.right // 2) * 2),
            min(HEIGHT, -(-self.bottom // 2) * 2),
        )


@dataclass(frozen=True)
class Patch:
    """A rectangle of a frame: brightness (h, w) and both colours (h / 2, w / 2, 2)."""

    box: Box
    light: npt.NDArray[np.uint8]
    colour: npt.NDArray[np.uint8]


def new_frame() -> Frame:
    """A black frame."""
    frame = np.full(FRAME_SHAPE, 128, np.uint8)
    frame[:HEIGHT] = 16
    return frame


def planes(frame: Frame) -> tuple[Frame, Frame, Frame]:
    """Views of a frame: Y (1080, 1920), U and V (540, 960)."""
    return (
        frame[:HEIGHT],
        frame[HEIGHT : HEIGHT * 5 // 4].reshape(HEIGHT // 2, WIDTH // 2),
        frame[HEIGHT * 5 // 4 :].reshape(HEIGHT // 2, WIDTH // 2),
    )


def patch_of(picture: Image, box: Box) -> Patch:
    """Convert a BGR picture (h, w, 3) that belongs at `box`, whose sides are even.

    Colours are means of 2 x 2 pixels; OpenCV's own I420 would take every fourth pixel's and jag red lips.
    """
    height, width = picture.shape[:2]
    light = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)[:height]
    half = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return Patch(box, light, np.asarray(cv2.transform(half, _CHROMA), np.uint8))


def put(frame: Frame, patch: Patch) -> None:
    """Copy a patch into a frame."""
    light, first, second = planes(frame)
    left, top, right, bottom = patch.box
    light[top:bottom, left:right] = patch.light
    half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
    first[half] = patch.colour[:, :, 0]
    second[half] = patch.colour[:, :, 1]


def copy(frame: Frame, source: Frame, box: Box) -> None:
    """Copy one rectangle with even sides from another frame."""
    half = slice(box.top // 2, box.bottom // 2), slice(box.left // 2, box.right // 2)
    for index, (target, origin) in enumerate(zip(planes(frame), planes(source), strict=True)):
        where = box.slices if index == 0 else half
        target[where] = origin[where]


def whole(picture: Image) -> Frame:
    """A BGR canvas (1080, 1920, 3) as a frame."""
    frame = np.empty(FRAME_SHAPE, np.uint8)
    put(frame, patch_of(picture, Box(0, 0, WIDTH, HEIGHT)))
    return frame


def to_bgr(frame: Frame) -> Image:
    """A frame as a BGR picture (1080, 1920, 3)."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_I420), np.uint8)
