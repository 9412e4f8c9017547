"""Portraits that are ready to speak: photos read, faces found, pictures composed, and kept for the next playback."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2

from device_agent.bundle import Bundle, BundleError
from device_agent.pipeline.face import FaceFinder
from device_agent.pipeline.photo import decode_photo, read_photo
from device_agent.pipeline.render import PortraitRenderer, Repair
from device_agent.pipeline.repair import to_tensor
from device_agent.pipeline.stages import StageGraph

# A composed portrait takes about 15 MB; a frame on a wall shows one or two photos again and again.
KEPT: Final = 2

Photo = Path | bytes


class Portraits:
    """The last `KEPT` portraits of one bundle."""

    def __init__(self, bundle: Bundle, repair: Repair | None) -> None:
        """The bundle must stay open until the first portrait is made."""
        self._bundle = bundle
        self._repair = repair
        self._finder: FaceFinder | None = None
        self._kept: OrderedDict[object, PortraitRenderer] = OrderedDict()

    def get(self, photo: Photo, working: Callable[[], None]) -> PortraitRenderer:
        """The portrait of a photo; `working` is called between slow steps. Raises PhotoError, NoFace, BundleError."""
        key = hashlib.sha256(photo).digest() if isinstance(photo, bytes) else stamp_of(photo)
        portrait = self._kept.pop(key, None) if key is not None else None
        if portrait is None:
            picture = decode_photo(photo) if isinstance(photo, bytes) else read_photo(photo)
            working()
            landmarks = self._faces().landmarks(picture)
            working()
            # Before the new one is made: two are kept, never three.
            while len(self._kept) >= KEPT:
                self._kept.popitem(last=False)
            portrait = PortraitRenderer(picture, landmarks, self._repair)
            working()
        if key is not None:
            self._kept[key] = portrait
        return portrait

    def _faces(self) -> FaceFinder:
        if self._finder is None:
            try:
                self._finder = FaceFinder(self._bundle.face_detector(), self._bundle.face_mesh())
            except cv2.error as error:
                raise BundleError("The bundle's face models cannot be loaded; build the bundle again.") from error
        return self._finder


def show_to(graph: StageGraph, portrait: PortraitRenderer) -> None:
    """Let the bundle's visual_prompt see the portrait's head; nothing where it has none. Raises RuntimeFailure."""
    if graph.photo_shape is not None:
        graph.prompt(to_tensor(portrait.still[portrait.head.slices], graph.photo_shape))


def stamp_of(file: Path) -> object | None:
    """Equal for the same file; one that was written again is another one. None when there is no such file."""
    try:
        status = file.stat()
    except OSError:
        return None  # reading it will say why
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
