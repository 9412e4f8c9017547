"""Photos: JPEG, PNG or WebP in, upright 8-bit BGR out.

Pillow decodes. Before it does, the header says how much memory that will take; a JPEG is then decoded at a half, a
quarter or an eighth of its size, and what cannot be made to fit is refused. Colours are converted a band of rows at a
time, so the decoded picture and the result are all that is ever held.
"""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS: Final = 200_000_000
MAX_BYTES: Final = 50 * 2**20
MEMORY_BYTES: Final = 110 * 2**20
"""What decoding a photo may take at its peak, the result included."""
WORKING_PIXELS: Final = 12_500_000
"""A 1080p canvas cannot show more."""
_MIN_SIDE: Final = 64
_BAND_PIXELS: Final = 500_000
_REDUCTIONS: Final = (1, 2, 4, 8)
# What Pillow holds per pixel while it decodes, measured; WebP goes through two canvases and a copy.
_BYTES_PER_PIXEL: Final = {"JPEG": 4, "MPO": 4, "PNG": 4, "WEBP": 17}
_RESULT_BYTES_PER_PIXEL: Final = 3
_COEFFICIENT_BYTES: Final = 2
_ORIENTATION: Final = 0x0112
_BACKGROUND: Final = (216, 216, 216, 255)

_DAMAGED: Final = "The photo is damaged or cut off: copy it again."

# The size is checked here, before anything is decoded; Pillow's own limit would refuse what can be reduced.
Image.MAX_IMAGE_PIXELS = None

_TURNS: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}

_OTHERS: Final = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a zip archive"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyp", "a HEIC or a film"),
)


class PhotoError(ValueError):
    """The photo cannot be used. The message is one sentence that says what to do."""


def read_photo(path: Path | str) -> Pixels:
    """Read a JPEG, PNG or WebP. Returns (h, w, 3) uint8 BGR, turned upright. Raises `PhotoError`."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise PhotoError(f"The photo {path.name} cannot be read: {error.strerror or error}.") from error


def decode_photo(data: bytes) -> Pixels:
    """Decode the bytes of a JPEG, PNG or WebP. Raises `PhotoError`."""
    return _read(io.BytesIO(data))


def _read(file: BinaryIO) -> Pixels:
    size = file.seek(0, io.SEEK_END)
    if size > MAX_BYTES:
        raise PhotoError(f"The photo file is larger than {MAX_BYTES // 2**20} MB: use a smaller one.")
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    try:
        with Image.open(file, formats=("JPEG", "PNG", "WEBP")) as image:
            reduction = _reduction(image, file, size)
            orientation = _orientation(image)
            if isinstance(image, JpegImageFile):
                # The decoder itself can leave out the detail, and then never takes the memory for it.
                image.draft(None, (image.width // reduction, image.height // reduction))
                reduction = 1
            image.load()
            pixels = _pixels(image, reduction)
    except (PhotoError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(_unknown(head)) from error
    # Pillow answers damage with almost any exception there is.
    except Exception as error:
        raise PhotoError(_DAMAGED) from error
    # After the decoded picture is gone, so that turning takes no more memory than decoding did.
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _unknown(head: bytes) -> str:
    for offset, magic, name in _OTHERS:
        if head.startswith(magic, offset):
            return f"The photo is {name}: export it as JPEG."
    if head.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")):
        return _DAMAGED
    return "The photo is neither a JPEG nor a PNG nor a WebP: export it as JPEG."


def _reduction(image: Image.Image, file: BinaryIO, size: int) -> int:
    """By how much to divide both sides so that the photo fits; checks the size. Raises PhotoError."""
    width, height = image.size
    pixels = width * height
    if min(width, height) < _MIN_SIDE:
        raise PhotoError(f"The photo is only {width} x {height} pixels: use a larger one.")
    jpeg = isinstance(image, JpegImageFile)
    per_pixel = _BYTES_PER_PIXEL.get(image.format or "", 4)
    # WebP files are read whole.
    fixed = _coefficient_bytes(image, file) if isinstance(image, JpegImageFile) else size if per_pixel > 4 else 0
    for reduction in _REDUCTIONS:
        result = pixels / reduction**2
        decoded = (result if jpeg else pixels) * per_pixel
        fits = fixed + decoded + result * _RESULT_BYTES_PER_PIXEL <= MEMORY_BYTES
        if fits and result <= WORKING_PIXELS and pixels <= MAX_PIXELS:
            return reduction
    if jpeg and pixels <= MAX_PIXELS:
        raise PhotoError(
            f"The photo is a progressive JPEG of {width} x {height} pixels, too many to fit: save it as a baseline one."
        )
    most = MAX_PIXELS if jpeg else int(MEMORY_BYTES / (per_pixel + _RESULT_BYTES_PER_PIXEL / _REDUCTIONS[-1] ** 2))
    advice = "use a smaller one" if jpeg else "export it as JPEG"
    raise PhotoError(
        f"The photo has {width} x {height} pixels, more than the {most // 1_000_000} million that fit: {advice}."
    )


def _coefficient_bytes(image: JpegImageFile, file: BinaryIO) -> float:
    """What libjpeg keeps of the whole picture, at any reduction, when it arrives in more than one scan; else 0."""
    if not image.info.get("progressive") and _in_one_scan(file, image.layers):
        return 0
    most = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
    samples = sum(across * down for _, across, down, _ in image.layer) / max(1, most)
    return image.width * image.height * samples * _COEFFICIENT_BYTES


def _in_one_scan(file: BinaryIO, components: int) -> bool:
    """Whether the first scan, behind whose header Pillow stops reading, holds all components."""
    length = 6 + 2 * components
    behind = file.tell()
    file.seek(max(0, behind - length - 2))
    marker = file.read(4)
    file.seek(behind)
    return marker == b"\xff\xda" + length.to_bytes(2, "big")


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8. A photo whose EXIF cannot be understood is shown as it is."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _pixels(image: Image.Image, reduction: int) -> Pixels:
    width, height = image.size
    result = np.empty((math.ceil(height / reduction), math.ceil(width / reduction), 3), np.uint8)
    rows = reduction * max(1, _BAND_PIXELS // (width * reduction))
    for top in range(0, height, rows):
        band = _opaque(image.crop((0, top, width, min(top + rows, height))))
        if reduction > 1:
            band = band.reduce(reduction)
        result[top // reduction : top // reduction + band.height] = np.asarray(band)[:, :, ::-1]
    return result


def _opaque(image: Image.Image) -> Image.Image:
    """As RGB; a picture with transparency is laid on light grey, because what it hid must not appear."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scaling
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    laid = Image.new("RGBA", image.size, _BACKGROUND)
    laid.alpha_composite(image.convert("RGBA"))
    return laid.convert("RGB")
