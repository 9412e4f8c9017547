"""Voices: a sound file in, mono 16 kHz samples for the motion model and the voice's own sound for the film out.

libsndfile reads WAV of every kind, MP3, OGG (Vorbis, Opus), FLAC, AIFF and CAF; what only FFmpeg reads (M4A and other
phone formats) needs PyAV, which frames do not carry. Files are decoded a block at a time, so memory follows from
`MAX_SECONDS` alone, whatever a file claims about itself.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Samples = npt.NDArray[np.float32]

MODEL_RATE: Final = 16_000
# Nobody hears more than this carries, and a minute of it stays at 11.5 MB.
SOUND_RATE: Final = 48_000
MAX_SECONDS: Final = 60
MIN_SECONDS: Final = 0.04
# A minute of stereo in 32 bit at 192 kHz fits. The file is never read whole; this bounds the search through it.
MAX_BYTES: Final = 96 * 2**20
_MIN_RATE: Final = 4_000
_MAX_RATE: Final = 192_000
_MAX_CHANNELS: Final = 8
# Encoders pad the end of a sound with a few frames.
_SLACK_SECONDS: Final = 0.1
_BLOCK: Final = 16_384

_DAMAGED: Final = "The voice is damaged or cut off: copy or record it again."
_UNREADABLE: Final = (
    "The voice is cut off, damaged or of a kind that cannot be read: copy it again or export it as WAV."
)
_LONG: Final = f"The voice is longer than {MAX_SECONDS} seconds: use a shorter one."
_FORMATS: Final = "WAV, MP3, OGG or FLAC"


class VoiceError(ValueError):
    """The voice cannot be used. The message is one sentence that says what to do."""


@dataclass(frozen=True)
class Voice:
    """One voice, mono: `samples` (n,) float32 in -1..1 at 16 kHz, `sound` the same at `rate` Hz, at most 48,000."""

    samples: Samples
    sound: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.sound) / self.rate


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on. soundfile seeks after every read to where it already is, and misses that place in an MP3."""

    def seekable(self) -> bool:
        return False


class _Source(NamedTuple):
    """A file being decoded: blocks of (n, channels) samples at `rate` Hz."""

    rate: int
    blocks: Iterator[Samples]


def read_voice(path: Path | str) -> Voice:
    """Read a sound file of at most 60 s. Raises `VoiceError`."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise VoiceError(f"The voice {path.name} cannot be read: {error.strerror or error}.") from error


def decode_voice(data: bytes) -> Voice:
    """Decode the bytes of a sound file. Raises `VoiceError`."""
    return _read(io.BytesIO(data))


class Resampler:
    """Band-limited change of the rate (Hz) of a mono sound that arrives in pieces; holds some milliseconds of it.

    n samples become round(n * wanted / rate), clipped to -1..1.
    """

    def __init__(self, rate: int, wanted: int) -> None:
        self._ratio = wanted / rate
        self._stream = None if rate == wanted else soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
        self._taken = 0
        self._given = 0

    def push(self, samples: Samples) -> Samples:
        """Take (n,) samples, any number; give what is ready."""
        self._taken += len(samples)
        samples = np.ascontiguousarray(samples, np.float32)
        return self._give(samples if self._stream is None else self._stream.resample_chunk(samples))

    def finish(self) -> Samples:
        """End the sound and give the rest of it."""
        rest = np.zeros(0, np.float32)
        if self._stream is not None and self._taken:
            rest = self._stream.resample_chunk(rest, last=True)
        total = max(1, round(self._taken * self._ratio)) if self._taken else 0
        missing = total - self._given - len(rest)
        return self._give(np.pad(rest, (0, missing)) if missing > 0 else rest[: total - self._given])

    def _give(self, samples: Samples) -> Samples:
        self._given += len(samples)
        return np.clip(samples, -1, 1)


def _read(file: BinaryIO) -> Voice:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    file.seek(0)
    if not head:
        raise VoiceError("The voice is an empty file: copy or record it again.")
    if size > MAX_BYTES:
        raise VoiceError(
            f"The voice is larger than {MAX_BYTES // 2**20} MB: use a recording of at most {MAX_SECONDS} seconds."
        )
    if _is_sound_file(head):
        if _is_cut_off(head, size):
            raise VoiceError(_DAMAGED)
        source = _open_sound_file(file)
    else:
        source = _open_media(file, head)
    return _collect(source)


def _collect(source: _Source) -> Voice:
    rate = min(source.rate, SOUND_RATE)
    model, sound = Resampler(source.rate, MODEL_RATE), Resampler(source.rate, rate)
    for_model: list[Samples] = []
    for_film: list[Samples] = []
    taken = 0
    for block in source.blocks:
        taken += len(block)
        if taken > (MAX_SECONDS + _SLACK_SECONDS) * source.rate:
            raise VoiceError(_LONG)
        if not np.isfinite(block).all():
            raise VoiceError("The voice holds damaged samples: export it again.")
        # Clipped first: the sum of huge samples is not finite.
        mono = np.clip(block, -1, 1).mean(axis=1, dtype=np.float32)
        for_model.append(model.push(mono))
        for_film.append(sound.push(mono))
    if taken < MIN_SECONDS * source.rate:
        raise VoiceError("The voice holds no sound or is cut off: copy or record it again.")
    for_model.append(model.finish())
    for_film.append(sound.finish())
    return Voice(np.concatenate(for_model), np.concatenate(for_film), rate)


def _is_sound_file(head: bytes) -> bool:
    """Whether libsndfile is asked at all: it would try its many old formats on anything."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return head[8:12] == b"WAVE"
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    if head[:4] in (b"fLaC", b"OggS", b"caff") or head[:3] == b"ID3":
        return True
    # An MPEG frame; without a layer it is AAC, which libsndfile does not read.
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0


def _is_cut_off(head: bytes, size: int) -> bool:
    """Whether a WAV is shorter than it says. libsndfile plays what is left of it, which stops in mid-word."""
    if head[:4] != b"RIFF":
        return False
    declared: int = struct.unpack_from("<I", head, 4)[0]
    # Recorders that write to a pipe cannot know the length. Some count a padding byte that they do not write.
    return 0 < declared < 0x7FFFFF00 and declared + 8 > size + 64


def _open_sound_file(file: BinaryIO) -> _Source:
    try:
        # libsndfile reads a real file by itself; through Python, a seek to nowhere prints a traceback.
        sound = _SoundFile(file if isinstance(file, io.BytesIO) else str(file.name))
    except soundfile.LibsndfileError as error:
        raise VoiceError(_UNREADABLE) from error
    _check(sound.samplerate, sound.channels)
    # Damaged files claim absurd lengths; the truth is found by decoding.
    known = sound.frames < 2**40
    if known and sound.frames > (MAX_SECONDS + _SLACK_SECONDS) * sound.samplerate:
        raise VoiceError(_LONG)
    return _Source(sound.samplerate, _blocks(sound, sound.frames if known else 0))


def _blocks(sound: _SoundFile, expected: int) -> Iterator[Samples]:
    given = 0
    with sound:
        while True:
            try:
                block = sound.read(_BLOCK, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise VoiceError(_DAMAGED) from error
            given += len(block)
            if not len(block):
                break
            yield block
    if given < expected - _SLACK_SECONDS * sound.samplerate:
        raise VoiceError(_DAMAGED)


def _check(rate: int, channels: int) -> None:
    if not 1 <= channels <= _MAX_CHANNELS or not _MIN_RATE <= rate <= _MAX_RATE:
        raise VoiceError("The voice has an impossible format: export it as 16-bit WAV.")


def _media_format(head: bytes) -> tuple[str, str] | None:
    """What FFmpeg calls a format that it reads and libsndfile does not, and what people call it."""
    if head[4:8] == b"ftyp":
        return "mp4", "an M4A"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska", "a WebM"
    if head[:5] == b"#!AMR":
        return "amr", "an AMR"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac", "an AAC"
    return None


def _open_media(file: BinaryIO, head: bytes) -> _Source:
    form = _media_format(head)
    if form is None:
        raise VoiceError(f"The voice is not a sound file: use {_FORMATS}.")
    try:
        import av
    except ImportError as error:
        raise VoiceError(
            f"The voice is {form[1]} file, which this frame cannot play: export it as {_FORMATS}."
        ) from error
    try:
        container = av.open(file, "r", format=form[0], metadata_errors="ignore")
    except (av.FFmpegError, ValueError) as error:
        raise VoiceError(_UNREADABLE) from error
    if not container.streams.audio:
        container.close()
        raise VoiceError("The voice file holds no sound: record it again.")
    stream = container.streams.audio[0]
    _check(stream.rate or 0, stream.channels or 0)
    if container.duration is not None and container.duration > (MAX_SECONDS + _SLACK_SECONDS) * av.time_base:
        raise VoiceError(_LONG)

    def blocks() -> Iterator[Samples]:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=stream.rate)
        with container:
            try:
                for frame in container.decode(stream):
                    for piece in resampler.resample(frame):
                        yield piece.to_ndarray().astype(np.float32, copy=False).reshape(-1, 1)
                # An empty resampler has nothing to flush and says so with an error.
                with suppress(av.FFmpegError, ValueError):
                    for piece in resampler.resample(None):
                        yield piece.to_ndarray().astype(np.float32, copy=False).reshape(-1, 1)
            except (av.FFmpegError, ValueError) as error:
                raise VoiceError(_DAMAGED) from error

    return _Source(stream.rate, blocks())
