import functools

import cv2
import numpy as np
import pytest

from device_agent.pipeline.acting import Pose, Sway
from device_agent.pipeline.canvas import FPS, FRAME_SHAPE, to_bgr, whole
from device_agent.pipeline.eyes import blink_at
from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.framing import HEIGHT, WIDTH, frame_portrait
from device_agent.pipeline.render import Canvas, PortraitRenderer
from tests.device_agent.portrait import CLOSED, finder, landmarks, photo, pose, renderer, shown

OPEN = pose(open=13, jaw=11, width=2)


@functools.cache
def resting() -> Image:
    """The portrait before anything moves, with the rounding of a frame's colours."""
    return to_bgr(whole(renderer().still))


def mouth_box() -> tuple[slice, slice]:
    points = frame_portrait(photo(), landmarks()).points
    left, right = points[61, 0], points[291, 0]
    return slice(int(points[0, 1]), int(points[17, 1]) + 30), slice(int(left), int(right))


def darkness(frame: np.ndarray) -> float:
    """The share of the mouth's pixels that are nearly black: the cavity."""
    return float((frame[mouth_box()].max(axis=2) < 60).mean())


def test_a_frame_is_full_hd() -> None:
    canvas = Canvas()
    renderer().draw(canvas, Pose(CLOSED))
    assert canvas.frame.shape == FRAME_SHAPE == (1620, 1920)
    assert canvas.frame.dtype == np.uint8
    assert to_bgr(canvas.frame).shape == (HEIGHT, WIDTH, 3) == (1080, 1920, 3)


def test_the_mouth_opens_with_the_parameter() -> None:
    dark = [darkness(shown(renderer(), pose(open=value, jaw=value * 0.8))) for value in (0, 9, 12, 16)]
    assert dark[0] < 0.02
    assert dark == sorted(dark)
    assert dark[-1] > 0.1


def test_a_smile_with_teeth_can_be_closed() -> None:
    shut, still = shown(renderer(), CLOSED)[mouth_box()], resting()[mouth_box()]

    def teeth(picture: np.ndarray) -> float:
        """The share of pixels that are bright and no redder than grey."""
        light, red, _ = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2LAB))
        return float(((red < 133) & (light > 150)).mean())

    assert teeth(still) > 0.05
    assert teeth(shut) < teeth(still) / 8


@pytest.mark.parametrize("name", ["open", "width", "protrusion", "jaw", "tuck", "tongue"])
def test_every_parameter_is_drawn(name: str) -> None:
    base = pose(open=9, jaw=7)
    changed = base + pose(**{name: 4})
    difference = np.abs(shown(renderer(), base).astype(int) - shown(renderer(), changed))
    assert difference.max() > 20


def test_nothing_but_mouth_and_jaw_moves() -> None:
    left, top, right, bottom = renderer().region
    for motion in (CLOSED, OPEN, pose(open=20, jaw=16, width=10), pose(protrusion=12, width=-14)):
        frame = shown(renderer(), motion)
        frame[top:bottom, left:right] = resting()[top:bottom, left:right]
        assert np.array_equal(frame, resting())
    points = frame_portrait(photo(), landmarks()).points
    assert points[[33, 263, 159, 386], 1].max() < top  # the eyes
    assert (right - left) * (bottom - top) < 0.1 * WIDTH * HEIGHT


def test_the_moving_region_joins_the_still_without_a_seam() -> None:
    left, top, right, bottom = renderer().region
    for motion in (OPEN, pose(open=20, jaw=16, width=10), pose(protrusion=12, width=-14, jaw=10)):
        frame, still = shown(renderer(), motion).astype(int), resting()
        inside = (slice(top, bottom), slice(left, right))
        change = np.abs(frame[inside] - still[inside]).max(axis=2)
        assert max(change[0].max(), change[-1].max(), change[:, 0].max(), change[:, -1].max()) <= 6


POSES = (
    Pose(OPEN),
    Pose(OPEN, 1.0),
    Pose(CLOSED, 0.6, Sway(1.0, -0.4)),
    Pose(pose(open=3, width=-8, protrusion=7)),
    Pose(OPEN, 0.0, Sway(-0.7, 0.3)),
    Pose(CLOSED),
    Pose(CLOSED, 0.0, Sway(0.2, 0.0)),
    Pose(CLOSED, 0.45),
)


def test_a_canvas_shows_a_pose_whatever_it_showed_before() -> None:
    alone = [shown(renderer(), each.motion, each.lids_down, each.sway) for each in POSES]
    used = Canvas()
    for order in (range(len(POSES)), [3, 0, 2, 1, 5, 4, 7, 6], reversed(range(len(POSES)))):
        for index in order:
            renderer().draw(used, POSES[index])
            assert np.array_equal(to_bgr(used.frame), alone[index]), index


def test_a_canvas_goes_from_one_portrait_to_another() -> None:
    mirrored = np.ascontiguousarray(photo()[:, ::-1])
    other, canvas = PortraitRenderer(mirrored, finder().landmarks(mirrored)), Canvas()
    other.draw(canvas, Pose(OPEN, 1.0, Sway(1.0, 0.0)))
    renderer().draw(canvas, Pose(OPEN))
    assert np.array_equal(to_bgr(canvas.frame), shown(renderer(), OPEN))


def test_the_head_sways_smoothly_and_the_background_stands_still() -> None:
    upright, moved = shown(renderer(), CLOSED), shown(renderer(), CLOSED, sway=Sway(1.0, 0.0))
    left, top, right, bottom = renderer().head
    outside = moved.copy()
    outside[top:bottom, left:right] = upright[top:bottom, left:right]
    assert np.array_equal(outside, upright)
    edges = np.abs(moved.astype(int) - upright)[top:bottom, left:right]
    assert max(edges[0].max(), edges[-1].max(), edges[:, 0].max(), edges[:, -1].max()) <= 8

    rows, columns = eye_boxes(frame_portrait(photo(), landmarks()).points)[0]
    around = moved[rows.start - 20 : rows.stop + 20, columns.start - 20 : columns.stop + 20]
    found = cv2.minMaxLoc(cv2.matchTemplate(around, upright[rows, columns], cv2.TM_SQDIFF))[2]
    mouth = frame_portrait(photo(), landmarks()).points[[61, 291], 0]
    assert found[0] - 20 == pytest.approx((mouth[1] - mouth[0]) / 50, abs=1)  # a mouth is 50 mm wide


def test_edges_of_the_photo_that_can_be_seen_do_not_bend() -> None:
    low, high = landmarks()[:, :2].min(axis=0).astype(int), landmarks()[:, :2].max(axis=0).astype(int)
    close = np.ascontiguousarray(photo()[low[1] - 25 : high[1] + 12, low[0] - 15 : high[0] + 15])
    close = np.asarray(cv2.resize(close, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC), np.uint8)
    near = PortraitRenderer(close, finder().landmarks(close))
    left, _, right, _ = frame_portrait(close, finder().landmarks(close)).extent
    assert left > 100, "this photo does not fill the width"
    moved = np.abs(shown(near, CLOSED, sway=Sway(1.0, 0.5)).astype(int) - shown(near, CLOSED)).max(axis=(0, 2))
    assert moved[: int(left) + 10].max() <= 2
    assert moved[int(right) - 10 :].max() <= 2
    assert moved.max() > 60


def test_a_small_motion_changes_little() -> None:
    once = shown(renderer(), pose(open=5, jaw=4)).astype(int)
    again = shown(renderer(), pose(open=5.05, jaw=4.04)).astype(int)
    assert np.abs(once - again).mean() < 0.05
    assert np.abs(once - again).max() < 40


@pytest.mark.parametrize("motion", [np.zeros(5, np.float32), np.full(6, np.nan, np.float32)])
def test_an_impossible_motion_is_refused(motion: np.ndarray) -> None:
    with pytest.raises(ValueError, match="six finite numbers"):
        shown(renderer(), motion)


def test_closed_lips_are_opened_and_get_teeth_and_depth() -> None:
    shut = shown(renderer(), CLOSED)[:, 420:1500].copy()
    speaking = PortraitRenderer(shut, finder().landmarks(shut))
    frame = shown(speaking, OPEN)
    left, top, right, bottom = speaking.region
    mouth = frame[top:bottom, (left * 3 + right) // 4 : (left + right * 3) // 4]
    spread = mouth.max(axis=2).astype(int) - mouth.min(axis=2)
    teeth = (spread < 60) & (mouth.min(axis=2) > 120)
    assert (mouth.max(axis=2) < 60).sum() > 2000
    assert teeth.sum() > 300


def test_a_tilted_face_moves_along_its_own_axis() -> None:
    turn = cv2.getRotationMatrix2D((222, 120), 25, 1.0)
    turned = np.asarray(cv2.warpAffine(photo(), turn, (512, 512), borderMode=cv2.BORDER_REFLECT), np.uint8)
    speaking = PortraitRenderer(turned, finder().landmarks(turned))
    dark = shown(speaking, OPEN).max(axis=2) < 60
    dark &= to_bgr(whole(speaking.still)).max(axis=2) >= 60
    rows, columns = np.nonzero(dark)
    assert len(rows) > 2000
    slope = np.polyfit(columns, rows, 1)[0]
    assert np.degrees(np.arctan(slope)) == pytest.approx(-22, abs=8)  # the photo's own head leans by 3 degrees


def test_a_black_and_white_photo_stays_without_colour() -> None:
    grey = cv2.cvtColor(cv2.cvtColor(photo(), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    speaking = PortraitRenderer(np.asarray(grey, np.uint8), landmarks())
    for motion in (OPEN, pose(open=6, protrusion=7, width=-8, tongue=6)):
        frame = shown(speaking, motion)
        assert int((frame.max(axis=2).astype(int) - frame.min(axis=2)).max()) <= 6


def eye_boxes(points: Points) -> list[tuple[slice, slice]]:
    boxes = []
    for corners in ((33, 133, 159, 145), (362, 263, 386, 374)):
        left, top = points[list(corners), :2].min(axis=0).astype(int)
        right, bottom = points[list(corners), :2].max(axis=0).astype(int)
        boxes.append((slice(top, bottom), slice(left, right)))
    return boxes


def test_a_blink_closes_both_eyes_and_touches_nothing_else() -> None:
    open_eyes = shown(renderer(), CLOSED)
    shut_eyes = shown(renderer(), CLOSED, 1.0)
    points = frame_portrait(photo(), landmarks()).points
    for box in eye_boxes(points):
        before, after = (cv2.cvtColor(frame[box], cv2.COLOR_BGR2GRAY).astype(int) for frame in (open_eyes, shut_eyes))
        centre = (
            slice(before.shape[0] // 4, -before.shape[0] // 4),
            slice(before.shape[1] // 4, -before.shape[1] // 4),
        )
        assert after[centre].std() < before[centre].std() / 1.5, "the iris still shows"
        around = (slice(box[0].start - 60, box[0].stop + 20), slice(box[1].start - 20, box[1].stop + 20))
        shut_eyes[around] = open_eyes[around]
    assert np.array_equal(open_eyes, shut_eyes)
    assert np.array_equal(shown(renderer(), CLOSED), open_eyes)


def test_a_tilted_face_blinks_with_whole_lids() -> None:
    turn = cv2.getRotationMatrix2D((222, 120), 40, 1.0)
    turned = np.asarray(cv2.warpAffine(photo(), turn, (512, 512), borderMode=cv2.BORDER_REFLECT), np.uint8)
    points = finder().landmarks(turned)
    speaking = PortraitRenderer(turned, points)
    shut = shown(speaking, OPEN, 1.0)
    for box in eye_boxes(frame_portrait(turned, points).points):
        assert np.abs(shut[box].astype(int) - shown(speaking, OPEN)[box]).max() > 60


def test_eyes_that_are_closed_already_stay_closed() -> None:
    asleep = shown(renderer(), CLOSED, 1.0)[:, 420:1500].copy()
    dreaming = PortraitRenderer(asleep, finder().landmarks(asleep))
    assert np.array_equal(shown(dreaming, CLOSED), shown(dreaming, CLOSED, 1.0))


def test_blinks_are_short_and_come_every_few_seconds() -> None:
    lids = [blink_at(step) for step in range(60 * FPS)]
    starts = [step for step in range(1, len(lids)) if lids[step] and not lids[step - 1]]
    assert 10 <= len(starts) <= 25
    assert max(lids) == 1.0
    assert lids[0] == 0.0
    assert sum(map(bool, lids)) / len(starts) / FPS < 0.25


def test_a_narrow_photo_is_extended_by_a_blur() -> None:
    framed = frame_portrait(photo()[:, 150:300], landmarks() - (150, 0, 0))
    assert framed.canvas.shape == (1080, 1920, 3)
    edge = framed.canvas[:, :200].astype(float)
    assert np.abs(np.diff(edge, axis=1)).max() <= 3
    middle = framed.canvas[:, 860:1060].astype(float)
    assert np.abs(np.diff(middle, axis=1)).max() > 20


def test_the_landmarks_follow_the_framing() -> None:
    framed = frame_portrait(photo(), landmarks())
    for index in (1, 33, 152, 291):
        x, y = landmarks()[index, :2]
        to_x, to_y = framed.points[index, :2]
        small = cv2.getRectSubPix(photo(), (9, 9), (float(x), float(y))).astype(float)
        size = round(9 * framed.zoom)
        large = cv2.getRectSubPix(framed.canvas, (size, size), (float(to_x), float(to_y)))
        back = cv2.resize(large, (9, 9), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(back - small).mean() < 12


def test_a_large_photo_is_shrunk_to_the_canvas() -> None:
    large = np.asarray(cv2.resize(photo(), (4096, 4096), interpolation=cv2.INTER_CUBIC), np.uint8)
    scaled = (landmarks() * 8 + np.array((3.5, 3.5, 0))).astype(np.float32)
    framed, expected = frame_portrait(large, scaled), frame_portrait(photo(), landmarks())
    assert framed.zoom < 1
    assert np.abs(framed.points - expected.points).max() < 1
    assert np.abs(framed.canvas.astype(int) - expected.canvas).mean() < 3


def test_a_close_up_fills_the_height() -> None:
    close = np.asarray(cv2.resize(photo()[50:200, 140:300], (960, 900), interpolation=cv2.INTER_CUBIC), np.uint8)
    points = ((landmarks() - (140, 50, 0)) * 6 + (2.5, 2.5, 0)).astype(np.float32)
    framed = frame_portrait(close, points)
    assert framed.zoom * 900 >= 1079
    assert framed.points[10, 1] > 0
    assert framed.points[152, 1] < HEIGHT
