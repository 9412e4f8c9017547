import io
import re
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.pipeline.voice import MAX_BYTES, VoiceError, decode_voice, read_voice, resample
from tests.device_agent.portrait import VOICE


def tone(rate: int, seconds: float = 0.5, pitch: float = 440.0) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * pitch * time) * np.hanning(len(time))


def riff(kind: int, channels: int, rate: int, bits: int, body: bytes, extra: bytes = b"") -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    form += extra
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def pcm(values: np.ndarray, bits: int) -> bytes:
    if bits == 8:
        return (np.round(values * 127) + 128).astype(np.uint8).tobytes()
    whole = np.round(values * (2 ** (bits - 1) - 1)).astype("<i4")
    wide = whole.view(np.uint8).reshape(-1, 4)
    return bytes(wide[:, : bits // 8].tobytes())


@pytest.mark.parametrize(("bits", "error"), [(8, 0.01), (16, 1e-4), (24, 1e-6), (32, 1e-6)])
def test_whole_number_samples_are_read(bits: int, error: float) -> None:
    sound = tone(16_000)
    voice = decode_voice(riff(1, 1, 16_000, bits, pcm(sound, bits)))
    assert voice.samples.dtype == np.float32
    assert np.abs(voice.samples - sound).max() < error


@pytest.mark.parametrize("bits", [32, 64])
def test_float_samples_are_read(bits: int) -> None:
    sound = tone(16_000).astype(f"<f{bits // 8}")
    assert np.abs(decode_voice(riff(3, 1, 16_000, bits, sound.tobytes())).samples - sound).max() < 1e-6


def test_the_extensible_format_is_read() -> None:
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    extra = struct.pack("<HHI", 22, 24, 4) + guid
    voice = decode_voice(riff(0xFFFE, 1, 16_000, 24, pcm(tone(16_000), 24), extra))
    assert np.abs(voice.samples - tone(16_000)).max() < 1e-6


def test_stereo_becomes_mono() -> None:
    both = np.column_stack([tone(16_000), np.zeros(8_000)]).reshape(-1)
    voice = decode_voice(riff(1, 2, 16_000, 16, pcm(both, 16)))
    assert np.abs(voice.samples - tone(16_000) / 2).max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_becomes_sixteen_kilohertz(rate: int) -> None:
    voice = decode_voice(riff(1, 1, rate, 16, pcm(tone(rate, 0.4), 16)))
    assert len(voice.samples) == 6_400
    assert np.abs(voice.samples - tone(16_000, 0.4)).max() < 1e-3
    assert voice.rate == rate
    assert len(voice.sound) == round(rate * 0.4)


def test_what_sixteen_kilohertz_cannot_carry_does_not_fold_back() -> None:
    high = np.sin(2 * np.pi * 9_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(high, 48_000, 16_000)[1_000:-1_000]).max() < 1e-3


def test_the_standard_librarys_files_are_read() -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(pcm(tone(16_000), 16))
    assert decode_voice(buffer.getvalue()).seconds == 0.5


def test_chunks_that_mean_nothing_here_are_skipped() -> None:
    whole = riff(1, 1, 16_000, 16, pcm(tone(16_000), 16))
    noted = whole[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + whole[12:]
    assert decode_voice(noted).seconds == 0.5


def test_the_demo_voice_is_read() -> None:
    voice = read_voice(VOICE)
    assert 3 < voice.seconds < 6
    assert voice.rate == 16_000


GOOD = riff(1, 1, 16_000, 16, pcm(tone(16_000), 16))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a WAV"),
        (b"ID3" + bytes(100), "not a WAV"),
        (GOOD[:10], "not a WAV"),
        (GOOD[:20], "damaged or cut off"),
        (GOOD[:44], "cut off"),
        (GOOD[:-1], "cut off"),
        (GOOD[:12] + GOOD[36:], "damaged or cut off"),
        (riff(1, 1, 16_000, 16, b""), "holds no sound"),
        (riff(2, 1, 16_000, 4, bytes(4000)), "compressed"),
        (riff(0x55, 1, 16_000, 0, bytes(4000)), "compressed"),
        (riff(1, 0, 16_000, 16, bytes(4000)), "impossible format"),
        (riff(1, 200, 16_000, 16, bytes(4000)), "impossible format"),
        (riff(1, 1, 0, 16, bytes(4000)), "impossible format"),
        (riff(1, 1, 4_000_000, 16, bytes(4000)), "impossible format"),
        (riff(3, 1, 16_000, 32, struct.pack("<f", float("nan")) * 2000), "damaged samples"),
        (riff(1, 1, 8_000, 8, bytes(61 * 8_000)), "longer than 60 seconds"),
    ],
)
def test_a_broken_voice_is_refused_in_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(VoiceError, match=sentence) as refusal:
        decode_voice(data)
    assert re.fullmatch(r"The voice .+\.", str(refusal.value))


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="cannot be read"):
        read_voice(tmp_path / "nowhere.wav")
    huge = tmp_path / "huge.wav"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(VoiceError, match="larger than 36 MB"):
        read_voice(huge)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_whatever_the_bytes_it_is_a_voice_or_one_sentence(noise: bytes, start: int, end: int) -> None:
    data = GOOD[:start] + noise + GOOD[end:]
    try:
        voice = decode_voice(data)
    except VoiceError as error:
        assert re.fullmatch(r"The voice .+\.", str(error))
    else:
        assert np.isfinite(voice.samples).all()
        assert np.abs(voice.samples).max() <= 1
