"""`compare`: two films side by side in one, labelled, so that eyes can judge what an adapter changed."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from device_agent.pipeline.canvas import whole
from device_agent.pipeline.framing import HEIGHT, WIDTH
from device_agent.playback.video import SOUND_RATE, Image, VideoError, VideoReader, VideoWriter, sound_of

_HALF: Final = WIDTH // 2
_LABEL_HEIGHT: Final = 84
_LABEL_LETTERS: Final = 60


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the sub-command to `device-agent`."""
    parser = subparsers.add_parser("compare", help="put two rendered videos side by side into one")
    parser.add_argument("--left", type=Path, required=True, help="the video shown on the left")
    parser.add_argument("--right", type=Path, required=True, help="the video shown on the right")
    parser.add_argument("--out", type=Path, required=True, help="the MP4 to write; it takes the left video's sound")
    parser.add_argument("--left-label", default="before", help="text above the left video (default: before)")
    parser.add_argument("--right-label", default="after", help="text above the right video (default: after)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0, or 1 with one sentence on stderr."""
    try:
        compare(arguments.left, arguments.right, arguments.out, arguments.left_label, arguments.right_label)
    except VideoError as error:
        print(f"device-agent compare: {error}", file=sys.stderr)
        return 1
    return 0


def compare(left: Path, right: Path, out: Path, left_label: str = "before", right_label: str = "after") -> int:
    """Write both videos side by side (1920 x 1080, 25 fps, H.264, the left one's sound). Returns the frame count.

    Each half shows the middle of its video at full size. The shorter one holds its last frame. Raises `VideoError`.
    """
    labels = _label_bar(left_label, right_label)
    reader = VideoReader(left)
    sound = reader.sound()
    with VideoWriter(out, WIDTH, HEIGHT, SOUND_RATE) as writer:
        for one, other in _pairs(reader.frames(), VideoReader(right).frames()):
            frame = np.hstack([_half(one), _half(other)])
            frame[:, _HALF - 2 : _HALF + 2] = 255
            frame[:_LABEL_HEIGHT] = _over(frame[:_LABEL_HEIGHT], labels)
            writer.write(whole(frame), sound_of(sound, SOUND_RATE, writer.frames))
        return writer.frames


def _pairs(left: Iterator[Image], right: Iterator[Image]) -> Iterator[tuple[Image, Image]]:
    """Frames of both until both have ended; the last frame of the shorter one stays."""
    one, other = next(left, None), next(right, None)
    if one is None or other is None:
        raise VideoError("One of the videos holds no frames: render it again.")
    last_one, last_other = one, other
    while one is not None or other is not None:
        last_one = last_one if one is None else one
        last_other = last_other if other is None else other
        yield last_one, last_other
        one, other = next(left, None), next(right, None)


def _half(frame: Image) -> Image:
    """(1080, 960, 3): the middle of a frame at its own scale, or as large as fits."""
    height, width = frame.shape[:2]
    zoom = max(HEIGHT / height, _HALF / width)
    if zoom != 1 and (height != HEIGHT or width < _HALF):
        frame = np.asarray(cv2.resize(frame, (round(width * zoom), round(height * zoom))), np.uint8)
        height, width = frame.shape[:2]
    left, top = (width - _HALF) // 2, (height - HEIGHT) // 2
    return frame[top : top + HEIGHT, left : left + _HALF]


def _label_bar(left: str, right: str) -> np.ndarray:
    """(84, 1920, 1) float32 0..1: both texts, centred over their halves."""
    bar = np.zeros((_LABEL_HEIGHT, WIDTH), np.uint8)
    for label, middle in ((left, _HALF // 2), (right, _HALF + _HALF // 2)):
        text = label[:_LABEL_LETTERS]
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.3, 3)
        scale = 1.3 * min(1.0, (_HALF - 80) / max(wide, 1))
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 3)
        place = (middle - wide // 2, (_LABEL_HEIGHT + high) // 2)
        cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 3, cv2.LINE_AA)
    return bar[:, :, None].astype(np.float32) / 255


def _over(rows: Image, labels: np.ndarray) -> Image:
    """White text on rows darkened so that it can be read over any photo."""
    dark = rows.astype(np.float32) * np.float32(0.35)
    return np.asarray(dark + (255 - dark) * labels, np.uint8)
