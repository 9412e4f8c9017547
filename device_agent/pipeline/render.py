"""From poses to pixels: one photo that speaks, 1920 x 1080 I420, one frame per pose.

All that depends on the photo alone is done once. Most of the picture never changes: while the portrait speaks, one
rectangle around mouth and chin is drawn and converted per frame, and two around the eyes when their lids move; while it
sways, one around the head.
"""

from collections.abc import Callable

import numpy as np

from device_agent.pipeline.acting import STILL, Pose
from device_agent.pipeline.canvas import Box, Frame, Patch, copy, new_frame, patch_of, put, whole
from device_agent.pipeline.context import pose_of
from device_agent.pipeline.eyes import Eyes
from device_agent.pipeline.face import Image, Points
from device_agent.pipeline.framing import frame_portrait
from device_agent.pipeline.mouth import place_mouth
from device_agent.pipeline.region import MouthRegion
from device_agent.pipeline.sway import Head

Repair = Callable[[Image], Image]
"""Mends the picture of a mouth (h, w, 3) uint8 BGR; the result has the same shape."""


class Canvas:
    """One frame's memory, drawn over again and again: it knows what it shows, so that only changes are drawn."""

    def __init__(self) -> None:
        self.frame: Frame = new_frame()
        self.shows: PortraitRenderer | None = None
        self.lids = 0.0
        self.swayed = False


class PortraitRenderer:
    """Draws the frames of one portrait. Not for use from several threads at once."""

    def __init__(self, photo: Image, landmarks: Points, repair: Repair | None = None) -> None:
        """`photo` (h, w, 3) uint8 BGR; `landmarks` (468, 3) float32 in photo pixels, from `FaceFinder`."""
        framed = frame_portrait(photo, landmarks)
        placement = place_mouth(framed.points)
        softness = max(1.0, 0.45 * framed.zoom)
        self._still = framed.canvas
        self._still_frame = whole(framed.canvas)
        self._mouth = MouthRegion(framed.canvas, framed.points, placement, softness)
        self._eyes = Eyes(framed.canvas, framed.points, placement, softness)
        self._head = Head(framed.points, placement, (self._mouth.box, *self._eyes.boxes), framed.extent)
        self._repair = repair
        self._facing = pose_of(landmarks)
        self._eyes_in_region = any(_meet(box, self._mouth.box) for box in self._eyes.boxes)
        self._drawn_motion = b""
        self._drawn: Image = framed.canvas[self.region.slices]
        self._drawn_patch: Patch | None = None

    @property
    def facing(self) -> str:
        """Which way the head looks, in a word of `protocol.messages.CONTEXTS`."""
        return self._facing

    @property
    def still(self) -> Image:
        """The composed photo before anything moves, (1080, 1920, 3) uint8 BGR. Do not write to it."""
        return self._still

    @property
    def region(self) -> Box:
        """Where mouth and chin are."""
        return self._mouth.box

    @property
    def head(self) -> Box:
        """What moves when the head sways."""
        return self._head.box

    def start(self) -> None:
        """A new film begins: what a repair made of the last mouth counts no more."""
        self._drawn_motion = b""

    def draw(self, canvas: Canvas, pose: Pose) -> None:
        """Make `canvas` show `pose`, whatever it showed before."""
        self._speak(pose)
        if canvas.shows is not self:
            canvas.frame[:] = self._still_frame
            canvas.shows, canvas.lids, canvas.swayed = self, 0.0, False
        if pose.sway != STILL:
            put(canvas.frame, patch_of(self._head.moved(self._composed(pose), pose.sway), self._head.box))
            canvas.swayed = True
            return
        if canvas.swayed:
            copy(canvas.frame, self._still_frame, self._head.box)
            canvas.lids, canvas.swayed = 0.0, False
        if self._drawn_patch is None:
            self._drawn_patch = patch_of(self._drawn, self.region)
        put(canvas.frame, self._drawn_patch)
        # After the mouth: the rectangle around a tilted one can reach over an eye, where the mouth moves nothing.
        if canvas.lids != pose.lids_down or self._eyes_in_region:
            for box, picture in self._eyes.pictures(pose.lids_down):
                put(canvas.frame, patch_of(picture, box))
            canvas.lids = pose.lids_down

    def _speak(self, pose: Pose) -> None:
        """Draw the mouth unless the frame before had the same."""
        motion = pose.motion.tobytes()
        if motion == self._drawn_motion:
            return
        drawn = self._mouth.draw(pose.motion)
        self._drawn = drawn if self._repair is None else self._repair(drawn)
        self._drawn_motion, self._drawn_patch = motion, None

    def _composed(self, pose: Pose) -> Image:
        """The head's rectangle as it looks before it moves."""
        picture = self._still[self._head.box.slices].copy()
        for box, part in ((self.region, self._drawn), *self._eyes.pictures(pose.lids_down)):
            left, top = box.left - self._head.box.left, box.top - self._head.box.top
            picture[top : top + part.shape[0], left : left + part.shape[1]] = part
        return np.asarray(picture, np.uint8)


def _meet(one: Box, other: Box) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom
