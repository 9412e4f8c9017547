"""Where the face is: BlazeFace finds it, FaceMesh lays 468 points on it.

Both networks are Google's unmodified weights and travel in the bundle; OpenCV runs them. They are needed once
per photo, so nothing here is tuned for speed.
"""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

NO_FACE: Final = "The photo shows no face: use one in which a single face is clearly visible."

_DETECTOR_SIZE: Final = 128
_MESH_SIZE: Final = 192
_MESH_POINTS: Final = 468
_DETECTION_THRESHOLD: Final = 0.6
# FaceMesh's own "this crop shows a face", after the sigmoid.
_PRESENCE_THRESHOLD: Final = 0.5
# The mesh was trained on crops half again as wide as the face.
_CROP_MARGIN: Final = 1.5
# A face of fewer pixels than this would be a blur on a 1080p screen.
_MIN_FACE_PX: Final = 40
# A photo is looked at in tiles down to this size, where a face that can be used would fill a third.
_MIN_TILE_PX: Final = 120
# A long panorama gives many tiles; more than these are not looked at.
_MAX_TILES: Final = 200


class NoFace(ValueError):  # a sentence for the household, hence no "Error"
    """The photo shows no usable face. The message is one sentence that says what to do."""


@dataclass(frozen=True)
class Detection:
    """One face box, in photo pixels: centre, side lengths, both eyes (image left first), score 0..1."""

    cx: float
    cy: float
    width: float
    height: float
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    score: float


@dataclass(frozen=True)
class Crop:
    """A square of the photo, turned by `angle` (radians), that FaceMesh looks at."""

    cx: float
    cy: float
    side: float
    angle: float


class FaceFinder:
    """Finds the 468 FaceMesh points of the largest face in a photo."""

    def __init__(self, detector: bytes, mesh: bytes) -> None:
        """Load both networks from the bytes of their TFLite files.

        OpenCV takes the buffers with its new engine, which hands out one named output per `forward`; only the
        path overload honours ENGINE_CLASSIC, and weights never need to touch the disk for that.
        """
        self._detector = cv2.dnn.readNetFromTFLite(np.frombuffer(detector, np.uint8))
        self._mesh = cv2.dnn.readNetFromTFLite(np.frombuffer(mesh, np.uint8))
        self._anchors = _anchors()

    def landmarks(self, photo: Image) -> Points:
        """(468, 3) float32: x, y in photo pixels and depth z in the same unit (smaller is nearer).

        Raises `NoFace` when there is none, or when it is too small to be animated.
        """
        best = self._largest(photo)
        if best is None:
            raise NoFace(NO_FACE)
        angle = math.atan2(best.right_eye[1] - best.left_eye[1], best.right_eye[0] - best.left_eye[0])
        crop = Crop(best.cx, best.cy, max(best.width, best.height) * _CROP_MARGIN, angle)
        points, presence = self._mesh_points(photo, crop)
        if presence < _PRESENCE_THRESHOLD:
            raise NoFace(NO_FACE)
        # A second look through a crop centred on the mesh itself: the detector's box is loose.
        points, presence = self._mesh_points(photo, _crop_around(points))
        if presence < _PRESENCE_THRESHOLD:
            raise NoFace(NO_FACE)
        width = float(np.ptp(points[:, 0]))
        if width < _MIN_FACE_PX:
            raise NoFace(f"The face is only {width:.0f} pixels wide: use a photo in which it is larger.")
        return points

    def _largest(self, photo: Image) -> Detection | None:
        """Look at the whole photo first, then at ever smaller overlapping tiles for a face that is far away."""
        height, width = photo.shape[:2]
        longest, shortest = max(height, width), min(height, width)
        sides = {longest, longest // 2, longest // 3, shortest, shortest // 2}
        for side in sorted((side for side in sides if side >= min(_MIN_TILE_PX, longest)), reverse=True):
            tiles = [(top, left) for top in _starts(height, side) for left in _starts(width, side)]
            found: list[Detection] = []
            for top, left in tiles[:_MAX_TILES]:
                found += self._detect(photo[top : top + side, left : left + side], left, top)
            if found:
                return max(found, key=lambda each: each.width)
        return None

    def _detect(self, tile: Image, left: int, top: int) -> list[Detection]:
        """Every confident box in one tile, shifted to photo pixels."""
        height, width = tile.shape[:2]
        side = max(height, width)
        scale = _DETECTOR_SIZE / side
        square = np.zeros((_DETECTOR_SIZE, _DETECTOR_SIZE, 3), np.uint8)
        small = cv2.resize(
            tile,
            (max(1, round(width * scale)), max(1, round(height * scale))),
            interpolation=cv2.INTER_AREA,
        )
        square[: small.shape[0], : small.shape[1]] = small
        blob = cv2.dnn.blobFromImage(square, 1 / 127.5, mean=(127.5, 127.5, 127.5), swapRB=True)
        self._detector.setInput(blob)
        logits = self._detector.forward("classificators").reshape(-1)
        self._detector.setInput(blob)
        raw = self._detector.forward("regressors").reshape(-1, 16)
        scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -50, 50)))
        result = []
        for index in np.flatnonzero(scores > _DETECTION_THRESHOLD):
            ax, ay = self._anchors[index] * side
            box = raw[index].astype(np.float64) / scale
            result.append(
                Detection(
                    cx=float(left + ax + box[0]),
                    cy=float(top + ay + box[1]),
                    width=float(box[2]),
                    height=float(box[3]),
                    left_eye=(float(left + ax + box[4]), float(top + ay + box[5])),
                    right_eye=(float(left + ax + box[6]), float(top + ay + box[7])),
                    score=float(scores[index]),
                )
            )
        return result

    def _mesh_points(self, photo: Image, crop: Crop) -> tuple[Points, float]:
        """FaceMesh on one turned square, its points mapped back to the photo, and the presence 0..1."""
        half = _MESH_SIZE / 2
        zoom = _MESH_SIZE / crop.side
        cos, sin = math.cos(crop.angle), math.sin(crop.angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        centre = np.array([crop.cx, crop.cy])
        to_crop = np.column_stack([turn * zoom, half - zoom * (turn @ centre)])
        # Many photo pixels per mesh pixel would alias: shrink first, then turn.
        shrink = max(1, int(1 / zoom))
        source = photo
        if shrink > 1:
            size = (max(1, photo.shape[1] // shrink), max(1, photo.shape[0] // shrink))
            source = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
            to_crop[:, 0] *= photo.shape[1] / size[0]
            to_crop[:, 1] *= photo.shape[0] / size[1]
        square = cv2.warpAffine(source, to_crop, (_MESH_SIZE, _MESH_SIZE), flags=cv2.INTER_LINEAR)
        blob = cv2.dnn.blobFromImage(square, 1 / 255, swapRB=True)
        self._mesh.setInput(blob)
        raw = self._mesh.forward("conv2d_20").reshape(_MESH_POINTS, 3).astype(np.float64)
        self._mesh.setInput(blob)
        logit = float(self._mesh.forward("conv2d_30").reshape(-1)[0])
        points = np.empty((_MESH_POINTS, 3), np.float32)
        points[:, :2] = (raw[:, :2] - half) / zoom @ turn + centre
        points[:, 2] = raw[:, 2] / zoom
        return points, 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` begin so that they overlap by half and cover `length`."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side / 2)) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _anchors() -> npt.NDArray[np.float64]:
    """BlazeFace's 896 anchor centres, as shares of the input: 2 per cell of 16 x 16, 6 per cell of 8 x 8."""
    rows = []
    for cells, per_cell in ((16, 2), (8, 6)):
        for y in range(cells):
            for x in range(cells):
                rows += [((x + 0.5) / cells, (y + 0.5) / cells)] * per_cell
    return np.array(rows)


def _crop_around(points: Points) -> Crop:
    """The square FaceMesh wants, from the mesh it gave: outer eye corners give the turn."""
    left, right = points[33], points[263]
    angle = math.atan2(float(right[1] - left[1]), float(right[0] - left[0]))
    cos, sin = math.cos(angle), math.sin(angle)
    along = points[:, 0] * cos + points[:, 1] * sin
    across = -points[:, 0] * sin + points[:, 1] * cos
    u, v = (along.min() + along.max()) / 2, (across.min() + across.max()) / 2
    side = float(max(np.ptp(along), np.ptp(across))) * _CROP_MARGIN
    return Crop(float(u * cos - v * sin), float(u * sin + v * cos), side, angle)
