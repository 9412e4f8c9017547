import cv2
import numpy as np
import pytest

from device_agent.pipeline.face import NO_FACE, NoFace
from tests.device_agent.portrait import finder, landmarks, photo


def test_the_face_in_the_portrait_is_found() -> None:
    points = landmarks()
    assert points.shape == (468, 3)
    assert points.dtype == np.float32
    left, top, right, bottom = 178, 68, 272, 174  # read off the photo by eye, to a few pixels
    assert np.abs(points[:, 0].min() - left) < 6
    assert np.abs(points[:, 0].max() - right) < 6
    assert np.abs(points[:, 1].min() - top) < 6
    assert np.abs(points[:, 1].max() - bottom) < 6


def test_the_landmarks_stand_where_the_features_are() -> None:
    points = landmarks()
    nose, upper_lip, lower_lip, chin = points[1, 1], points[0, 1], points[17, 1], points[152, 1]
    assert nose < upper_lip < lower_lip < chin
    assert points[33, 0] < points[133, 0] < points[362, 0] < points[263, 0]  # the eyes' corners, left to right


def test_a_tilted_head_gives_tilted_landmarks() -> None:
    turn = cv2.getRotationMatrix2D((222, 120), 25, 1.0)
    points = finder().landmarks(np.asarray(cv2.warpAffine(photo(), turn, (512, 512)), np.uint8))
    expected = landmarks()[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert np.abs(points[:, :2] - expected).mean() < 3


def test_a_small_face_in_a_large_photo_is_found() -> None:
    wide = np.full((1400, 2000, 3), 90, np.uint8)
    wide[700:1212, 1200:1712] = photo()
    points = finder().landmarks(wide)
    assert np.abs(points[:, :2] - landmarks()[:, :2] - (1200, 700)).mean() < 2


def test_of_several_faces_the_largest_is_taken() -> None:
    both = np.full((512, 900, 3), 200, np.uint8)
    both[:, 388:] = photo()
    both[200:456, 40:296] = cv2.resize(photo(), (256, 256), interpolation=cv2.INTER_AREA)
    assert finder().landmarks(both)[:, 0].mean() > 388


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_face(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (400, 600, 3)).astype(np.uint8)
    with pytest.raises(NoFace, match=NO_FACE):
        finder().landmarks(noise)


def test_a_photo_without_people_is_no_face() -> None:
    with pytest.raises(NoFace, match=NO_FACE):
        finder().landmarks(photo()[:, 330:])
    with pytest.raises(NoFace, match=NO_FACE):
        finder().landmarks(np.full((300, 300, 3), 128, np.uint8))


def test_a_face_too_small_to_animate_is_refused() -> None:
    small = np.full((300, 300, 3), 200, np.uint8)
    small[50:210, 50:210] = cv2.resize(photo(), (160, 160), interpolation=cv2.INTER_AREA)
    with pytest.raises(NoFace, match=r"only \d+ pixels wide|shows no face"):
        finder().landmarks(small)


def test_a_face_in_a_panorama_is_found() -> None:
    wide = np.asarray(cv2.copyMakeBorder(photo(), 0, 0, 2500, 400, cv2.BORDER_CONSTANT, value=(90, 90, 90)), np.uint8)
    points = finder().landmarks(wide)
    assert np.abs(points[:, :2] - landmarks()[:, :2] - (2500, 0)).mean() < 2
