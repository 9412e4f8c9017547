"""Photos: JPEG or PNG in, upright 8-bit BGR out.

The header says how large the picture would become; that is checked before a decoder sees the file, so that a small file
cannot fill the memory of a frame.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from device_agent.pipeline.face import Image

MAX_PIXELS: Final = 40_000_000
MAX_BYTES: Final = 50 * 2**20
_MIN_SIDE: Final = 64
# A 1080p canvas cannot show more; decoding a JPEG at half size keeps memory low.
_HALVE_ABOVE: Final = 12_000_000

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_DAMAGED: Final = "The photo is damaged or cut off: copy it again."


class PhotoError(ValueError):
    """The photo cannot be used. The message is one sentence that says what to do."""


@dataclass(frozen=True)
class _Header:
    kind: str
    width: int
    height: int
    alpha: bool = False


def read_photo(path: Path | str) -> Image:
    """Read a JPEG or PNG. Returns (h, w, 3) uint8 BGR, turned upright. Raises `PhotoError`."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PhotoError(f"The photo file is larger than {MAX_BYTES // 2**20} MB: use a smaller one.")
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(f"The photo {path.name} cannot be read: {error.strerror or error}.") from error
    return decode_photo(data)


def decode_photo(data: bytes) -> Image:
    """Decode the bytes of a JPEG or PNG. Raises `PhotoError`."""
    header = _header(data)
    if header.width * header.height > MAX_PIXELS:
        raise PhotoError(
            f"The photo has {header.width} x {header.height} pixels: use one of at most "
            f"{MAX_PIXELS // 1_000_000} million pixels."
        )
    if min(header.width, header.height) < _MIN_SIDE:
        raise PhotoError(f"The photo is only {header.width} x {header.height} pixels: use a larger one.")
    flags = cv2.IMREAD_COLOR
    if header.alpha:
        flags = cv2.IMREAD_UNCHANGED
    elif header.kind == "jpeg" and header.width * header.height > _HALVE_ABOVE:
        flags = cv2.IMREAD_REDUCED_COLOR_2
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PhotoError(_DAMAGED) from error
    if image is None:
        raise PhotoError(_DAMAGED)
    return np.ascontiguousarray(_opaque(image) if header.alpha else image, np.uint8)


def _opaque(image: np.ndarray) -> np.ndarray:
    """Lay a picture with transparency on light grey; what it hid must not appear."""
    depth = 65535.0 if image.dtype == np.uint16 else 255.0
    values = image.astype(np.float32) * np.float32(255.0 / depth)
    if image.ndim == 2 or image.shape[2] < 4:
        colour = values if image.ndim == 3 else np.dstack([values] * 3)
        return np.asarray(np.clip(colour, 0, 255), np.uint8)
    alpha = values[:, :, 3:] / np.float32(255)
    return np.asarray(np.clip(values[:, :, :3] * alpha + 216 * (1 - alpha), 0, 255), np.uint8)


def _header(data: bytes) -> _Header:
    if data[:8] == _PNG:
        return _png_header(data)
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg_header(data)
    raise PhotoError("The photo is neither a JPEG nor a PNG: export it as JPEG.")


def _png_header(data: bytes) -> _Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise PhotoError(_DAMAGED)
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    if b"IEND" not in data[-64:]:
        raise PhotoError(_DAMAGED)
    return _Header("png", width, height, alpha=colour in (4, 6) or b"tRNS" in data[33:4096])


def _jpeg_header(data: bytes) -> _Header:
    """Walk the segments up to the frame header (SOF) and check that the picture has an end."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        length = struct.unpack_from(">H", data, position + 2)[0]
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            if position + 10 > len(data):
                break
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
            if components not in (1, 3):
                raise PhotoError("The photo is in print colours (CMYK): export it as an RGB JPEG.")
            # A thumbnail's end lies in a segment before this one, so any end from here on is the picture's own.
            if data.find(b"\xff\xd9", position) < 0:
                raise PhotoError(_DAMAGED)
            return _Header("jpeg", width, height)
        if length < 2:
            break
        position += 2 + length
    raise PhotoError(_DAMAGED)
