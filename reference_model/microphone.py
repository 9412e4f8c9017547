"""A poor microphone: a telephone's band and hiss, always the same for the same sound."""

import zlib

import numpy as np

from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.features import SAMPLE_RATE

_LOWEST_HZ, _HIGHEST_HZ = 300.0, 3400.0
_SIGNAL_TO_NOISE_DB = 12.0


def through_poor_microphone(samples: FloatArray) -> FloatArray:
    """Samples in [-1, 1] as such a microphone gives them, of the same length."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    frequencies = np.fft.rfftfreq(samples.size, 1.0 / SAMPLE_RATE)
    spectrum[(frequencies < _LOWEST_HZ) | (frequencies > _HIGHEST_HZ)] = 0.0
    voice = np.fft.irfft(spectrum, samples.size)
    # The sound itself seeds its hiss, so that a clip is the same wherever it is made.
    seed = zlib.crc32(np.ascontiguousarray(np.round(samples * 32768.0), dtype="<i4").tobytes())
    hiss = np.random.default_rng(seed).standard_normal(samples.size)
    loudness = np.sqrt(np.mean(voice**2)) * 10.0 ** (-_SIGNAL_TO_NOISE_DB / 20.0)
    return np.asarray(np.clip(voice + hiss * loudness, -1.0, 1.0), dtype=np.float32)
