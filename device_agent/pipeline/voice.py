"""Voices: a WAV file in, mono 16 kHz samples for the motion model and the voice's own sound for the video out.

The standard library's `wave` reads neither float samples nor the extensible format that most recorders write, so the
chunks are walked here. Nothing in the file is believed before it is compared with how many bytes there are.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

MODEL_RATE: Final = 16_000
MAX_SECONDS: Final = 60
MIN_SECONDS: Final = 0.04
_MIN_RATE: Final = 4_000
_MAX_RATE: Final = 192_000
_MAX_CHANNELS: Final = 8
# 60 s of stereo in 24 bit at 96 kHz fit; a frame must also hold them decoded.
MAX_BYTES: Final = 36 * 2**20

_PCM: Final = 1
_FLOAT: Final = 3
_EXTENSIBLE: Final = 0xFFFE


class VoiceError(ValueError):
    """The voice cannot be used. The message is one sentence that says what to do."""


@dataclass(frozen=True)
class Voice:
    """One voice: `samples` (n,) float32 in -1..1 at 16 kHz, `sound` the same mono sound at its own `rate` (Hz)."""

    samples: Samples
    sound: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.sound) / self.rate


@dataclass(frozen=True)
class _Format:
    kind: int
    channels: int
    rate: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def read_voice(path: Path | str) -> Voice:
    """Read a WAV file of at most 60 s. Raises `VoiceError`."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise VoiceError(
                f"The voice is larger than {MAX_BYTES // 2**20} MB: use a WAV of at most {MAX_SECONDS} seconds."
            )
        data = path.read_bytes()
    except OSError as error:
        raise VoiceError(f"The voice {path.name} cannot be read: {error.strerror or error}.") from error
    return decode_voice(data)


def decode_voice(data: bytes) -> Voice:
    """Decode the bytes of a WAV file. Raises `VoiceError`."""
    form, body = _chunks(data)
    if len(body) > MAX_SECONDS * form.rate * form.frame_bytes:
        raise VoiceError(f"The voice is longer than {MAX_SECONDS} seconds: use a shorter one.")
    if len(body) < max(1, int(MIN_SECONDS * form.rate)) * form.frame_bytes:
        raise VoiceError("The voice holds no sound: record it again.")
    values = _samples(form, body)
    if not np.isfinite(values).all():
        raise VoiceError("The voice holds damaged samples: export it as WAV again.")
    mono = values.reshape(-1, form.channels).mean(axis=1, dtype=np.float32)
    sound = np.clip(mono, -1, 1).astype(np.float32)
    return Voice(resample(sound, form.rate, MODEL_RATE), sound, form.rate)


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """Band-limited change of sample rate, (n,) -> (round(n * wanted / rate),).

    Done on the spectrum of blocks that overlap by half, cross-faded, so that memory stays small and a click at one
    end does not ring at the other.
    """
    if rate == wanted or len(samples) == 0:
        return samples.astype(np.float32, copy=False)
    total = max(1, round(len(samples) * wanted / rate))
    # Half blocks that last a whole number of samples at both rates keep the timing exact.
    unit = rate // math.gcd(rate, wanted)
    hop = unit * max(1, round(0.25 * rate / unit))
    hop_out = hop * wanted // rate
    block, block_out = 2 * hop, 2 * hop_out
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(block_out) / block_out)
    count = len(samples) // hop + 2
    padded = np.zeros(hop + (count + 1) * hop, np.float64)
    padded[hop : hop + len(samples)] = samples
    result = np.zeros((count + 2) * hop_out, np.float64)
    for index in range(count):
        spectrum = np.fft.rfft(padded[index * hop : index * hop + block])
        keep = min(len(spectrum), block_out // 2 + 1)
        wide = np.zeros(block_out // 2 + 1, np.complex128)
        wide[:keep] = spectrum[:keep]
        result[index * hop_out : index * hop_out + block_out] += (
            np.fft.irfft(wide, block_out) * (wanted / rate) * window
        )
    return np.clip(result[hop_out : hop_out + total], -1, 1).astype(np.float32)


def _chunks(data: bytes) -> tuple[_Format, bytes]:
    """Walk the RIFF chunks to the format and the sound."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise VoiceError("The voice is not a WAV file: export it as WAV.")
    form: _Format | None = None
    position = 12
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"fmt ":
            form = _format(data[position : position + min(length, 64)])
        elif name == b"data":
            if form is None:
                break
            if position + length > len(data):
                raise VoiceError("The voice is cut off: copy or record it again.")
            return form, data[position : position + length - length % form.frame_bytes]
        position += length + length % 2
    raise VoiceError("The voice is damaged or cut off: copy or record it again.")


def _format(chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise VoiceError("The voice is damaged or cut off: copy or record it again.")
    kind, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == _EXTENSIBLE and len(chunk) >= 26:
        kind = struct.unpack_from("<H", chunk, 24)[0]
    if (kind, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise VoiceError("The voice is compressed or of an unknown kind: export it as 16-bit PCM WAV.")
    if not 1 <= channels <= _MAX_CHANNELS or not _MIN_RATE <= rate <= _MAX_RATE or align != channels * bits // 8:
        raise VoiceError("The voice has an impossible format: export it as 16-bit PCM WAV.")
    return _Format(kind, channels, rate, bits)


def _samples(form: _Format, body: bytes) -> Samples:
    """All channels interleaved, as float32 in -1..1."""
    if form.kind == _FLOAT:
        return np.frombuffer(body, f"<f{form.bits // 8}").astype(np.float32)
    if form.bits == 8:
        return (np.frombuffer(body, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if form.bits == 24:
        bytes3 = np.frombuffer(body, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(bytes3), 4), np.uint8)
        wide[:, 1:] = bytes3
        return wide.view("<i4").reshape(-1).astype(np.float32) / np.float32(2**31)
    return np.frombuffer(body, f"<i{form.bits // 8}").astype(np.float32) / np.float32(2 ** (form.bits - 1))
