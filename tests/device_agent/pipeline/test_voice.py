import io
import re
import struct
import sys
import tracemalloc
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.pipeline.voice import MAX_BYTES, Resampler, VoiceError, decode_voice, read_voice
from tests.device_agent.portrait import VOICE

PYAV = find_spec("av") is not None
"""A frame has none of it."""


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


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_rate_becomes_sixteen_kilohertz(rate: int) -> None:
    voice = decode_voice(riff(1, 1, rate, 16, pcm(tone(rate, 0.4), 16)))
    assert len(voice.samples) == 6_400
    assert np.abs(voice.samples - tone(16_000, 0.4)).max() < 1e-3
    # The film's sound keeps its rate, up to what anybody hears.
    assert voice.rate == min(rate, 48_000)
    assert len(voice.sound) == round(voice.rate * 0.4)


def test_what_sixteen_kilohertz_cannot_carry_does_not_fold_back() -> None:
    high = np.sin(2 * np.pi * 9_000 * np.arange(48_000) / 48_000).astype(np.float32)
    resampler = Resampler(48_000, 16_000)
    assert np.abs(np.concatenate([resampler.push(high), resampler.finish()])[1_000:-1_000]).max() < 1e-3


@given(st.sampled_from([8_000, 16_000, 22_050, 44_100, 96_000]), st.lists(st.integers(0, 5_000), max_size=6))
@settings(deadline=None)
def test_a_sound_is_resampled_alike_however_it_was_cut_into_pieces(rate: int, sizes: list[int]) -> None:
    whole = (0.3 * np.random.default_rng(1).normal(size=sum(sizes))).astype(np.float32)
    at_once, in_pieces = Resampler(rate, 16_000), Resampler(rate, 16_000)
    pieces = [in_pieces.push(part) for part in np.split(whole, np.cumsum(sizes))] + [in_pieces.finish()]
    expected = np.concatenate([at_once.push(whole), at_once.finish()])
    assert np.array_equal(np.concatenate(pieces), expected)
    assert len(expected) == (max(1, round(len(whole) * 16_000 / rate)) if len(whole) else 0)


def written(kind: str, coding: str | None = None, seconds: float = 1.0, rate: int = 48_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(rate, seconds), rate, format=kind, subtype=coding)
    return buffer.getvalue()


KINDS = [
    ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", None), ("AIFF", None), ("CAF", "ALAC_16"),
    ("RF64", None), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "coding"), KINDS)
def test_what_phones_and_recorders_write_is_read(kind: str, coding: str | None) -> None:
    voice = decode_voice(written(kind, coding))
    assert abs(voice.seconds - 1) < 0.1
    shared = min(len(voice.samples), 16_000)
    assert np.corrcoef(voice.samples[:shared], tone(16_000, 1.0)[:shared])[0, 1] > 0.98


def with_av(kind: str, codec: str, seconds: float = 1.0) -> bytes:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        samples = tone(48_000, seconds).astype(np.float32)
        for at in range(0, len(samples) - 960, 960):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 960].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("adts", "aac")])
def test_what_only_ffmpeg_reads_is_read_where_it_is_there(kind: str, codec: str) -> None:
    voice = decode_voice(with_av(kind, codec))
    assert abs(voice.seconds - 1) < 0.1
    assert np.abs(voice.samples).max() > 0.4


def test_without_ffmpeg_an_m4a_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    m4a = with_av("mp4", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VoiceError, match="is an M4A file, which this frame cannot play: export it as WAV, MP3, OGG"):
        decode_voice(m4a)


def test_a_long_m4a_is_refused() -> None:
    with pytest.raises(VoiceError, match="longer than 60 seconds"):
        decode_voice(with_av("mp4", "aac", 61))


@pytest.mark.parametrize(("kind", "coding"), [("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", None)])
@pytest.mark.parametrize("share", [0.002, 0.1, 0.5, 0.9])
def test_a_compressed_voice_that_was_cut_off_is_refused_or_played_as_far_as_it_goes(
    kind: str, coding: str | None, share: float
) -> None:
    whole = written(kind, coding, seconds=5)
    try:
        voice = decode_voice(whole[: int(len(whole) * share)])
    except VoiceError as error:
        assert re.fullmatch(r"The voice .+\.", str(error))
    else:
        # The pages of an OGG do not say how many there are, and one holds up to a second.
        assert kind == "OGG"
        assert voice.seconds / 5 < share + 0.1


def test_a_recorder_that_wrote_to_a_pipe_did_not_know_the_length() -> None:
    streamed = bytearray(riff(1, 1, 16_000, 16, pcm(tone(16_000), 16)))
    streamed[4:8] = streamed[40:44] = b"\xff\xff\xff\xff"
    assert decode_voice(bytes(streamed)).seconds == 0.5


@pytest.mark.parametrize(("channels", "rate", "bits"), [(1, 16_000, 16), (2, 96_000, 24)])
def test_an_hour_is_refused_before_it_is_read(tmp_path: Path, channels: int, rate: int, bits: int) -> None:
    path = tmp_path / "hour.wav"
    length = 3600 * rate * channels * bits // 8
    head = riff(1, channels, rate, bits, b"")
    head = head[:4] + struct.pack("<I", 36 + length) + head[8:40] + struct.pack("<I", length)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(44 + length)
    tracemalloc.start()
    try:
        with pytest.raises(VoiceError, match="of at most 60 seconds" if bits == 16 else "larger than 96 MB"):
            read_voice(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_minute_of_the_largest_voice_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "minute.wav"
    soundfile.write(path, np.zeros((60 * 96_000, 2), np.int16) + 5, 96_000, subtype="PCM_24")
    tracemalloc.start()
    try:
        voice = read_voice(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
    assert voice.seconds == 60


def test_samples_beyond_full_scale_are_clipped() -> None:
    huge = np.tile(np.array([3e38, 3e38, -3e38, -3e38], "<f4"), 1000)
    voice = decode_voice(riff(3, 2, 16_000, 32, huge.tobytes()))
    assert np.abs(voice.sound).max() == 1
    assert np.abs(voice.samples).max() <= 1


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
        (b"", "empty file"),
        (b"Dear all, please find the recording attached.", "not a sound file"),
        (b"PK\x03\x04" + bytes(5000), "not a sound file"),
        (GOOD[:10], "not a sound file"),
        (b"ID3" + bytes(100), "cut off, damaged or of a kind"),
        (b"OggS" + bytes(100), "cut off, damaged or of a kind"),
        (b"fLaC" + bytes(100), "cut off, damaged or of a kind"),
        (b"\0\0\0\x18ftypM4A " + bytes(100), "cut off, damaged or of a kind" if PYAV else "export it as WAV"),
        (GOOD[:20], "damaged or cut off"),
        (GOOD[:44], "damaged or cut off"),
        (GOOD[: len(GOOD) // 2], "damaged or cut off"),
        (riff(1, 1, 16_000, 16, b""), "holds no sound or is cut off"),
        (riff(0x161, 1, 16_000, 0, bytes(4000)), "export it as WAV"),
        (riff(1, 200, 16_000, 16, bytes(40_000)), "impossible format"),
        (riff(1, 1, 1_000, 16, bytes(4000)), "impossible format"),
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
    with pytest.raises(VoiceError, match="larger than 96 MB"):
        read_voice(huge)
