"""Photos and voices come from anybody: whatever their bytes, a picture or a voice comes out, or one sentence."""

import functools
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from device_agent.pipeline.photo import MEMORY_BYTES, PhotoError, decode_photo
from device_agent.pipeline.voice import MAX_SECONDS, SOUND_RATE, VoiceError, read_voice
from tests.device_agent.fuzzing import bounded, damaged

# More by hand: FUZZ_EXAMPLES=20000 pytest tests/device_agent/test_fuzz_media.py
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "250"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow],
)


@functools.cache
def voices() -> list[bytes]:
    rate = 16_000
    sound = 0.3 * np.sin(np.arange(rate // 2) * 0.2)
    stereo = np.column_stack([sound, sound])
    kinds = [
        ("WAV", "PCM_16", sound), ("WAV", "PCM_U8", stereo), ("WAV", "DOUBLE", sound), ("WAVEX", "PCM_24", stereo),
        ("WAV", "IMA_ADPCM", sound), ("WAV", "MS_ADPCM", sound), ("RF64", "PCM_16", sound), ("AIFF", "PCM_16", sound),
        ("MP3", None, stereo), ("OGG", "VORBIS", sound), ("OGG", "OPUS", stereo), ("FLAC", None, sound),
        ("CAF", "ALAC_16", sound),
    ]  # fmt: skip
    files = []
    for kind, coding, samples in kinds:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format=kind, subtype=coding)
        files.append(buffer.getvalue())
    return files


@functools.cache
def photos() -> list[bytes]:
    colours = Image.effect_noise((120, 90), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "A photo of somebody"
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (colours, "JPEG", {"exif": exif}),
        (colours, "JPEG", {"progressive": True, "subsampling": 0}),
        (colours.convert("L"), "JPEG", {}),
        (colours.convert("CMYK"), "JPEG", {}),
        (colours, "MPO", {"save_all": True, "append_images": [colours]}),
        (colours, "PNG", {"exif": exif}),
        (colours.convert("RGBA"), "PNG", {}),
        (colours.convert("P"), "PNG", {"transparency": 3}),
        (colours.convert("I;16"), "PNG", {}),
        (colours, "WEBP", {}),
        (colours.convert("RGBA"), "WEBP", {"lossless": True, "exif": exif}),
        (colours, "WEBP", {"save_all": True, "append_images": [colours.rotate(90)]}),
    ]
    files = []
    for image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def listen(data: bytes, path: Path) -> None:
    path.write_bytes(data)  # from a file, libsndfile reads by itself
    # A minute of sound at both rates, twice while its pieces are joined.
    with bounded(2 * MAX_SECONDS * (SOUND_RATE + 16_000) * 4 / 2**20 + 15):
        try:
            voice = read_voice(path)
        except VoiceError as error:
            assert re.fullmatch(r"The voice .+\.", str(error))
        else:
            for samples in (voice.samples, voice.sound):
                assert np.isfinite(samples).all()
                assert np.abs(samples).max() <= 1
            assert 0 < voice.seconds <= MAX_SECONDS + 0.2
            assert abs(len(voice.samples) / 16_000 - voice.seconds) < 0.001


def look(data: bytes) -> None:
    with bounded(MEMORY_BYTES / 2**20 * 1.1, seconds=10):
        try:
            image = decode_photo(data)
        except PhotoError as error:
            assert re.fullmatch(r"The photo .+\.", str(error))
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert min(image.shape[:2]) > 0


@pytest.mark.slow
@fuzz
@given(data=damaged(voices()))
def test_a_damaged_voice_is_heard_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    listen(data, tmp_path_factory.getbasetemp() / "voice")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds in broken EXIF
@fuzz
@given(damaged(photos()))
def test_a_damaged_photo_is_seen_or_refused(data: bytes) -> None:
    look(data)


@fuzz
@given(
    head=st.sampled_from([b"", b"RIFF\xff\xff\xff\xffWAVE", b"OggS", b"fLaC", b"ID3\4\0", b"\xff\xfb", b"caff\0\1"]),
    rest=st.binary(),
)
def test_random_bytes_are_no_voice(tmp_path_factory: pytest.TempPathFactory, head: bytes, rest: bytes) -> None:
    listen(head + rest, tmp_path_factory.getbasetemp() / "voice")


@pytest.mark.filterwarnings("ignore")
@fuzz
@given(
    st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\xff\0\0\0WEBPVP8X"]),
    st.binary(),
)
def test_random_bytes_are_no_photo(head: bytes, rest: bytes) -> None:
    look(head + rest)
