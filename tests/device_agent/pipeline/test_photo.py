import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from device_agent.pipeline.photo import MAX_BYTES, MEMORY_BYTES, PhotoError, decode_photo, read_photo
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


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header names another size."""
    data = bytearray(jpeg)
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


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


def test_sixteen_bit_grey_becomes_eight() -> None:
    grey = np.arange(80 * 80, dtype=np.uint16).reshape(80, 80) * 10
    assert np.array_equal(decode_photo(encoded(grey))[:, :, 0], grey >> 8)


def test_a_webp_is_read_and_what_it_hid_stays_hidden() -> None:
    image = Image.new("RGBA", (90, 70), (10, 20, 30, 255))
    image.paste((255, 0, 0, 0), (45, 0, 90, 70))
    result = decode_photo(saved(image, "WEBP", lossless=True))
    assert (result[:, :45] == (30, 20, 10)).all()
    assert (result[:, 45:] == 216).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int) -> None:
    jpeg = with_orientation(encoded(gradient(), ".jpg"), orientation)
    with Image.open(io.BytesIO(jpeg)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[:, :, ::-1]
    assert np.array_equal(decode_photo(jpeg), upright)


def test_print_colours_become_screen_colours() -> None:
    for progressive in (False, True):
        # Ink of one kind each: cyan, magenta, yellow, none.
        image = Image.new("CMYK", (160, 80))
        for at, ink in enumerate([(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0)]):
            image.paste(ink, (40 * at, 0, 40 * at + 40, 80))
        result = decode_photo(saved(image, "JPEG", quality=95, progressive=progressive)).astype(int)
        assert [tuple((result[40, at] > 128).astype(int)) for at in (20, 60, 100, 140)] == [
            (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1),
        ]  # fmt: skip


def test_a_phones_picture_of_several_pictures_shows_the_first() -> None:
    first, second = Image.new("RGB", (90, 70), (200, 0, 0)), Image.new("RGB", (90, 70), (0, 0, 200))
    result = decode_photo(saved(first, "MPO", save_all=True, append_images=[second]))
    assert (result[:, :, 2] > 150).all()


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (8_000, 5_001), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(PhotoError, match="more than the 28 million that fit: export it as JPEG"):
        decode_photo(png(width, height))


def test_a_jpeg_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(PhotoError, match="65000 x 65000 pixels, more than the 200 million that fit"):
        decode_photo(claiming(encoded(gradient(), ".jpg"), 65_000, 65_000))


def test_a_progressive_jpeg_that_cannot_be_reduced_in_memory_is_refused_by_its_header() -> None:
    jpeg = saved(Image.new("RGB", (80, 80)), "JPEG", progressive=True, subsampling=0)
    with pytest.raises(PhotoError, match="progressive JPEG of 8000 x 8000 pixels, too many to fit: save it"):
        decode_photo(claiming(jpeg, 8_000, 8_000))


def test_a_jpeg_in_several_scans_counts_like_a_progressive_one() -> None:
    jpeg = bytearray(saved(Image.new("RGB", (80, 80)), "JPEG", subsampling=0))
    scan = jpeg.index(b"\xff\xda\x00\x0c\x03")
    jpeg[scan : scan + 5] = b"\xff\xda\x00\x08\x01"  # the first scan holds one component of three
    del jpeg[scan + 7 : scan + 11]
    with pytest.raises(PhotoError, match="progressive JPEG"):
        decode_photo(claiming(bytes(jpeg), 8_000, 8_000))


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(4800, 3000, (1500, 2400, 3)), (4000, 3000, (3000, 4000, 3))]
)
def test_a_large_jpeg_is_decoded_smaller(width: int, height: int, expected: tuple[int, int, int]) -> None:
    large = np.asarray(cv2.resize(gradient(), (width, height)))
    assert decode_photo(encoded(large, ".jpg")).shape == expected


def test_a_large_png_is_reduced_and_looks_the_same() -> None:
    large = np.asarray(cv2.resize(gradient(), (4801, 3001), interpolation=cv2.INTER_NEAREST))
    result = decode_photo(encoded(large))
    assert result.shape == (1501, 2401, 3)
    assert np.abs(result[:1500, :2400].astype(int) - large[:3000:2, :4800:2]).mean() < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [
        ("JPEG", (11_600, 8_700), {}),
        ("JPEG", (4_080, 3_060), {}),
        ("JPEG", (6_000, 4_000), {"progressive": True}),
        ("PNG", (5_600, 4_200), {"compress_level": 1}),
        ("WEBP", (2_800, 2_000), {"method": 0}),
    ],
)
def test_the_largest_photos_stay_within_their_memory(
    tmp_path: Path, kind: str, size: tuple[int, int], options: dict[str, object]
) -> None:
    path = tmp_path / "large"
    path.write_bytes(saved(Image.linear_gradient("L").resize(size).convert("RGB"), kind, **options))
    script = (
        "import sys; from device_agent.pipeline.photo import read_photo\n"
        "def peak(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "read_photo(sys.argv[2]); before = peak(); read_photo(sys.argv[1]); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path, PORTRAIT], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < MEMORY_BYTES * 1.05


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9])
def test_a_photo_that_was_cut_off_is_refused(kind: str, share: float) -> None:
    whole = encoded(photo(), kind)
    with pytest.raises(PhotoError, match=r"^The photo is .+\.$"):
        decode_photo(whole[: int(len(whole) * share)])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is neither a JPEG nor a PNG nor a WebP"),
        (bytes(1000), "is neither a JPEG"),
        (b"GIF89a" + bytes(50), "is a GIF: export it as JPEG"),
        (b"PK\x03\x04" + bytes(50), "is a zip archive"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "is a HEIC"),
        (b"II*\0" + bytes(50), "is a TIFF"),
        (b"\xff\xd8\xff", "is damaged or cut off"),
        (b"\x89PNG\r\n\x1a\n", "is damaged or cut off"),
        (b"RIFF\0\0\0\0WEBP", "is damaged or cut off"),
    ],
)
def test_anything_else_is_refused_by_name(data: bytes, sentence: str) -> None:
    with pytest.raises(PhotoError, match=rf"^The photo {sentence}.*\.$"):
        decode_photo(data)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_only_costs_the_orientation() -> None:
    loop = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHII", 0xFFFF, 0x8769, 4, 1, 8) + bytes(60_000)
    jpeg = encoded(gradient(), ".jpg")
    bomb = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(loop) + 2) + loop + jpeg[2:]
    assert np.array_equal(decode_photo(bomb), decode_photo(jpeg))


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


def test_too_little_memory_is_not_called_a_damaged_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "crop", starve)
    with pytest.raises(MemoryError):
        decode_photo(encoded(gradient()))
