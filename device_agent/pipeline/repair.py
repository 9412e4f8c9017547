"""face_repair: a network's second look at the mouth that the compositor drew.

The stage sees the rectangle around mouth and chin at its own size and answers with a better one. Only the difference is
laid back on the picture, fading to nothing towards the rectangle's border: what is finer than the stage can see stays
as it was drawn, and no seam shows.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.pipeline.face import Image
from device_agent.pipeline.stages import StageGraph
from device_agent.runtime.base import RuntimeFailure

Plane = npt.NDArray[np.float32]

# The share of each side over which the repair fades.
_FADE: Final = 0.12


class Repairer:
    """Mends pictures of mouths with one graph's face_repair stage."""

    def __init__(self, graph: StageGraph) -> None:
        self._graph = graph
        self._fade = np.zeros((0, 0, 1), np.float32)

    def __call__(self, picture: Image) -> Image:
        """Give the mended picture, (h, w, 3) uint8 BGR, of one just drawn. Raises RuntimeFailure.

        Without the stage it is the very same picture.
        """
        shape = self._graph.mouth_shape
        if shape is None:
            return picture
        seen = to_tensor(picture, shape)
        repaired = self._graph.repair(seen)
        if repaired is None:
            return picture
        if not np.isfinite(repaired).all():
            raise RuntimeFailure("The stage face_repair answered with values that are not finite.")
        height, width = picture.shape[:2]
        change = np.ascontiguousarray((repaired.reshape(shape) - seen)[0, ::-1].transpose(1, 2, 0)) * np.float32(255)
        change = np.asarray(cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        if self._fade.shape[:2] != (height, width):
            self._fade = _fading(height, width)
        return np.asarray(np.clip(picture + change * self._fade + np.float32(0.5), 0, 255), np.uint8)


def to_tensor(picture: Image, shape: tuple[int, ...]) -> Plane:
    """A picture (h, w, 3) uint8 BGR as a stage takes it: RGB in 0..1 of `shape`, (1, 3, height, width)."""
    rows, columns = shape[2:]
    smaller = rows * columns < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    small = cv2.resize(picture, (columns, rows), interpolation=method)
    return np.ascontiguousarray(small[:, :, ::-1].transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def _fading(height: int, width: int) -> Plane:
    """1 inside, 0 on the border, (height, width, 1)."""
    down, across = (
        np.clip(np.minimum(np.arange(size), np.arange(size)[::-1]) / max(1.0, _FADE * size), 0, 1)
        for size in (height, width)
    )
    weight = down[:, None] * across[None, :]
    return np.asarray((weight * weight * (3 - 2 * weight))[:, :, None], np.float32)
