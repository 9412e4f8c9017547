import cv2
import numpy as np
import pytest

from device_agent.pipeline.context import TURNED_DEG, level_dbfs, loudness_of, pose_of, runtime_context, yaw_deg
from device_agent.pipeline.face import Image, Points
from protocol.messages import CONTEXTS
from tests.device_agent.portrait import finder, landmarks, photo


def turned(points: Points, degrees: float) -> Points:
    """The head on its neck, as a solid body."""
    angle = np.radians(degrees)
    middle = points.mean(axis=0)
    x, y, z = (points - middle).T
    moved = [x * np.cos(angle) + z * np.sin(angle), y, z * np.cos(angle) - x * np.sin(angle)]
    return np.asarray(np.stack(moved, axis=1) + middle, dtype=np.float32)


def seen_from_aside(degrees: float) -> Image:
    """The portrait's head cut into triangles, turned as a solid body, and drawn anew before its own blurred picture."""
    points, picture = landmarks(), photo()
    middle = points.mean(axis=0)
    rim = cv2.convexHull(np.ascontiguousarray(points[:, :2])).reshape(-1, 2)
    hair = np.column_stack([(rim - middle[:2]) * 1.25 + middle[:2], np.full(len(rim), points[:, 2].max() + 25)])
    head = np.concatenate([points, hair]).astype(np.float32)
    after = turned(head, degrees)
    net = cv2.Subdiv2D((-1000, -1000, 3000, 3000))
    for x, y in head[:, :2]:
        net.insert((float(x), float(y)))
    corners = np.asarray(net.getTriangleList()).reshape(-1, 3, 1, 2) - head[None, None, :, :2]
    distance = np.square(corners).sum(axis=3)
    inside = (distance.min(axis=2) < 0.25).all(axis=1)
    triangles = distance.argmin(axis=2)[inside]
    drawn = np.asarray(cv2.GaussianBlur(picture, (61, 61), 0), np.uint8)
    for triangle in triangles[np.argsort(-after[triangles][:, :, 2].mean(axis=1))]:  # the farthest first
        source, target = head[triangle, :2].copy(), after[triangle, :2].copy()
        if np.linalg.det(source[1:] - source[0]) * np.linalg.det(target[1:] - target[0]) <= 0:
            continue  # its back
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.round(target).astype(np.int32), 1)
        left, top, width, height = cv2.boundingRect(np.round(target).astype(np.int32))
        box = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        place = cv2.getAffineTransform(source, target)
        place[:, 2] -= box[1].start, box[0].start
        shape = mask[box].shape
        patch = cv2.warpAffine(picture, place, (shape[1], shape[0]), borderMode=cv2.BORDER_REFLECT)
        drawn[box][mask[box] > 0] = patch[mask[box] > 0]
    return drawn


def test_the_portrait_looks_straight_ahead() -> None:
    assert abs(yaw_deg(landmarks())) < 3
    assert pose_of(landmarks()) == "frontal"


@pytest.mark.parametrize("degrees", [-60, -25, -10, 10, 25, 60])
def test_a_head_that_turns_is_seen_to_turn(degrees: float) -> None:
    points = turned(landmarks(), degrees)
    assert abs(abs(yaw_deg(points)) - abs(degrees)) < 3
    assert pose_of(points) == ("turned" if abs(degrees) > TURNED_DEG else "frontal")


def test_a_head_that_only_leans_is_frontal() -> None:
    lean = cv2.getRotationMatrix2D((222, 120), 30, 1.0)
    leaning = np.asarray(cv2.warpAffine(photo(), lean, (512, 512), borderMode=cv2.BORDER_REFLECT), np.uint8)
    assert pose_of(finder().landmarks(leaning)) == "frontal"


@pytest.mark.parametrize(("degrees", "word"), [(-35, "turned"), (-10, "frontal"), (10, "frontal"), (35, "turned")])
def test_in_a_picture_of_a_turned_head_the_turn_is_found(degrees: float, word: str) -> None:
    points = finder().landmarks(seen_from_aside(degrees))
    assert pose_of(points) == word
    assert yaw_deg(points) * degrees < 0


@pytest.mark.parametrize(("scale", "word"), [(0.004, "quiet"), (0.07, "normal"), (0.3, "loud")])
def test_loudness_is_that_of_the_speech_and_not_of_the_pauses(scale: float, word: str) -> None:
    noise = np.random.default_rng(1).normal(size=32_000).astype(np.float32) * np.float32(scale)
    with_pauses = np.concatenate([noise, np.zeros(160_000, np.float32)])
    assert loudness_of(noise) == loudness_of(with_pauses) == word
    assert level_dbfs(with_pauses) == pytest.approx(level_dbfs(noise), abs=0.1)


@pytest.mark.parametrize("length", [0, 1, 639, 640, 641])
def test_a_voice_of_any_length_has_a_level(length: int) -> None:
    assert level_dbfs(np.ones(length, np.float32)) == pytest.approx(0 if length else -100, abs=0.01)


def test_the_runtime_is_one_word() -> None:
    assert runtime_context(["rknn", "rknn"]) == {"runtime": "npu"}
    assert runtime_context(["onnx"]) == {"runtime": "cpu"}
    assert runtime_context(["rknn", "onnx"]) == {"runtime": "mixed"}
    assert runtime_context([]) == {}


def test_every_word_is_one_that_the_backend_counts() -> None:
    assert {"frontal", "turned"} == set(CONTEXTS["pose"])
    assert {"quiet", "normal", "loud"} == set(CONTEXTS["loudness"])
    assert {"npu", "cpu", "mixed"} == set(CONTEXTS["runtime"])
