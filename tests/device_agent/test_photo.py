import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.pipeline.photo import MAX_BYTES, PhotoError, decode_photo, read_photo
from tests.device_agent.portrait import PORTRAIT, encoded, photo


def gradient(width: int = 120, height: int = 80) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 2] = np.linspace(0, 255, width, dtype=np.uint8)  # red grows to the right
    image[:, :, 0] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]  # blue grows downwards
    return image


def png(width: int, height: int, rows: bytes = b"", colour: int = 2) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_a_png_is_read_as_it_is() -> None:
    image = gradient()
    assert np.array_equal(decode_photo(encoded(image)), image)


def test_a_jpeg_is_read() -> None:
    image = gradient()
    error = np.abs(decode_photo(encoded(image, ".jpg")).astype(int) - image)
    assert error.mean() < 4


def test_a_grey_picture_becomes_three_channels() -> None:
    grey = gradient()[:, :, 2]
    result = decode_photo(encoded(grey))
    assert result.shape == (80, 120, 3)
    assert np.array_equal(result[:, :, 1], grey)


def test_the_cameras_orientation_is_applied() -> None:
    turned = decode_photo(with_orientation(encoded(gradient(), ".jpg"), 6))
    assert turned.shape == (120, 80, 3)
    # Turned a quarter clockwise: what grew to the right now grows downwards.
    assert turned[110, 40, 2] > turned[10, 40, 2] + 150


def test_what_transparency_hid_does_not_appear() -> None:
    image = np.dstack([gradient(), np.full((80, 120), 255, np.uint8)])
    image[:, 60:] = (0, 0, 255, 0)  # bright red, but invisible
    result = decode_photo(encoded(image))
    assert np.array_equal(result[:, :60], gradient()[:, :60])
    assert (result[:, 60:] == 216).all()


def test_a_palette_with_transparency_is_read() -> None:
    body = png(100, 100, rows=(b"\0" + bytes(100)) * 100, colour=3)
    palette = struct.pack(">I", 6) + b"PLTE" + bytes([10, 20, 30, 0, 0, 0])
    palette += struct.pack(">I", zlib.crc32(palette[4:]))
    hidden = struct.pack(">I", 1) + b"tRNS" + b"\xff"
    hidden += struct.pack(">I", zlib.crc32(hidden[4:]))
    result = decode_photo(body[:33] + palette + hidden + body[33:])
    assert (result == (30, 20, 10)).all()


def test_sixteen_bits_become_eight() -> None:
    image = np.full((80, 80, 4), 65535, np.uint16)
    image[:, :, 0] = 128 * 257
    assert (decode_photo(encoded(image)) == (128, 255, 255)).all()


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (8_000, 5_001), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(PhotoError, match="use one of at most 40 million pixels"):
        decode_photo(png(width, height))


def test_a_jpeg_bomb_is_refused_by_its_header() -> None:
    jpeg = bytearray(encoded(gradient(), ".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(PhotoError, match="65000 x 65000 pixels"):
        decode_photo(bytes(jpeg))


def test_a_large_jpeg_is_decoded_smaller() -> None:
    large = np.asarray(cv2.resize(gradient(), (4800, 3000)))
    assert decode_photo(encoded(large, ".jpg")).shape == (1500, 2400, 3)


def test_print_colours_are_refused() -> None:
    jpeg = bytearray(encoded(gradient(), ".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 9] = 4
    with pytest.raises(PhotoError, match="CMYK"):
        decode_photo(bytes(jpeg))


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9])
def test_a_photo_that_was_cut_off_is_refused(kind: str, share: float) -> None:
    whole = encoded(photo(), kind)
    with pytest.raises(PhotoError, match=r"^The photo is .+\.$"):
        decode_photo(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(PhotoError, match=r"^The photo is .+\.$"):
        decode_photo(data)


def test_a_picture_without_content_is_refused() -> None:
    with pytest.raises(PhotoError, match="damaged"):
        decode_photo(png(100, 100))


def test_a_thumbnail_is_refused() -> None:
    with pytest.raises(PhotoError, match="only 32 x 40 pixels"):
        decode_photo(encoded(gradient(32, 40)))


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="cannot be read"):
        read_photo(tmp_path / "nowhere.png")
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PhotoError, match="larger than 50 MB"):
        read_photo(huge)


def test_the_demo_portrait_is_read() -> None:
    assert read_photo(PORTRAIT).shape == (512, 512, 3)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([".png", ".jpg"]), st.integers(0, 2**32), st.integers(1, 40))
def test_damage_is_refused_or_survived(kind: str, seed: int, places: int) -> None:
    data = bytearray(encoded(gradient(), kind))
    random = np.random.default_rng(seed)
    for at in random.integers(2, len(data), places):
        data[at] = random.integers(256)
    try:
        image = decode_photo(bytes(data))
    except PhotoError as error:
        assert re.fullmatch(r"The photo .+\.", str(error))
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
