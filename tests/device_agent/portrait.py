"""The demo portrait, the reference model and helpers that the picture tests share."""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.bundle import Bundle
from device_agent.pipeline.acting import STILL, Pose, Sway
from device_agent.pipeline.canvas import to_bgr
from device_agent.pipeline.face import FaceFinder, Image, Points
from device_agent.pipeline.photo import read_photo
from device_agent.pipeline.render import Canvas, PortraitRenderer

REFERENCE = Path(__file__).resolve().parents[2] / "reference_model"
PORTRAIT = REFERENCE / "assets" / "portrait.png"
VOICE = REFERENCE / "assets" / "voice-zh.wav"
BUNDLE = REFERENCE / "artifacts" / "talking-portrait-1.0.bundle"
ADAPTER = REFERENCE / "artifacts" / "mandarin.adapter"

CLOSED = np.zeros(6, np.float32)


@functools.cache
def finder() -> FaceFinder:
    with Bundle.open(BUNDLE) as bundle:
        return FaceFinder(bundle.face_detector(), bundle.face_mesh())


@functools.cache
def photo() -> Image:
    return read_photo(PORTRAIT)


@functools.cache
def landmarks() -> Points:
    return finder().landmarks(photo())


@functools.cache
def renderer() -> PortraitRenderer:
    return PortraitRenderer(photo(), landmarks())


def shown(portrait: PortraitRenderer, motion: np.ndarray, lids_down: float = 0.0, sway: Sway = STILL) -> Image:
    """One pose on a canvas of its own, as BGR."""
    canvas = Canvas()
    portrait.draw(canvas, Pose(motion, lids_down, sway))
    return to_bgr(canvas.frame)


def pose(**millimetres: float) -> np.ndarray:
    """A motion by the names of its parameters."""
    names = ("open", "width", "protrusion", "jaw", "tuck", "tongue")
    motion = np.zeros(6, np.float32)
    for name, value in millimetres.items():
        motion[names.index(name)] = value
    return motion


def encoded(image: npt.NDArray[Any], kind: str = ".png") -> bytes:
    done, data = cv2.imencode(kind, image)
    assert done
    return data.tobytes()
