"""From samples to features, as they arrive: 80 mel-frequency cepstral coefficients every 10 ms.

One step is 640 samples (40 ms at 16 kHz) and gives 4 hops x 80 coefficients. Hop h of the sound ends at sample
160 * (h + 1) and looks back 400 samples, so a step needs nothing that comes after it. Training uses this very code.
Only NumPy, and always one step at a time: the same shapes give the same bits however the sound was cut into pieces.
"""

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
STEP_SAMPLES = 640
HOP_SAMPLES = 160
HOPS_PER_STEP = STEP_SAMPLES // HOP_SAMPLES
COEFFICIENTS = 80
FEATURES_PER_STEP = HOPS_PER_STEP * COEFFICIENTS

_WINDOW_SAMPLES = 400
_HISTORY_SAMPLES = _WINDOW_SAMPLES - HOP_SAMPLES
_FFT_SIZE = 512
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 7_600.0
_PRE_EMPHASIS = 0.97
# About -90 dB of full scale: below it lies rounding noise, which must not look like speech.
_POWER_FLOOR = 1e-6


def _mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)


def _mel_filters() -> FloatArray:
    """Triangles over the spectrum's bins, (257, 80)."""
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), COEFFICIENTS + 2)
    bins = 1127.0 * np.log1p(np.arange(_FFT_SIZE // 2 + 1) * (SAMPLE_RATE / _FFT_SIZE) / 700.0)
    rising = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), dtype=np.float32)


def _cosines() -> FloatArray:
    """The orthonormal DCT-II, (80, 80)."""
    n = np.arange(COEFFICIENTS)
    basis = np.cos(math.pi / COEFFICIENTS * (n[:, None] + 0.5) * n[None, :]) * math.sqrt(2.0 / COEFFICIENTS)
    basis[:, 0] *= math.sqrt(0.5)
    return np.asarray(basis, dtype=np.float32)


_FILTERS = _mel_filters()
_COSINES = _cosines()
_HAMMING = np.hamming(_WINDOW_SAMPLES).astype(np.float32)
_STARTS = np.arange(HOPS_PER_STEP)[:, None] * HOP_SAMPLES + np.arange(_WINDOW_SAMPLES)[None, :]


class FeatureExtractor:
    """Turns samples into features. Holds less than one step of sound plus 15 ms of history."""

    def __init__(self) -> None:
        # One more sample than the window, for the pre-emphasis of its first sample.
        self._history = np.zeros(_HISTORY_SAMPLES + 1, dtype=np.float32)
        self._pending = np.zeros(0, dtype=np.float32)

    def push(self, samples: FloatArray) -> FloatArray:
        """Take mono samples in [-1, 1], any number; give the features of each completed step, (steps, 320)."""
        self._pending = np.concatenate([self._pending, np.asarray(samples, dtype=np.float32).reshape(-1)])
        count = self._pending.size // STEP_SAMPLES
        steps = np.empty((count, FEATURES_PER_STEP), dtype=np.float32)
        for index in range(count):
            steps[index] = self._step(self._pending[index * STEP_SAMPLES : (index + 1) * STEP_SAMPLES])
        self._pending = self._pending[count * STEP_SAMPLES :].copy()
        return steps

    def finish(self) -> FloatArray:
        """End the sound: a started step is filled up with silence, (0 or 1, 320)."""
        missing = -self._pending.size % STEP_SAMPLES
        return self.push(np.zeros(missing, dtype=np.float32))

    def _step(self, samples: FloatArray) -> FloatArray:
        sound = np.concatenate([self._history, samples])
        self._history = sound[-self._history.size :].copy()
        emphasised = sound[1:] - np.float32(_PRE_EMPHASIS) * sound[:-1]
        spectrum = np.fft.rfft(emphasised[_STARTS] * _HAMMING, _FFT_SIZE, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        energies = np.log(np.maximum(power @ _FILTERS, _POWER_FLOOR))
        return np.asarray(energies @ _COSINES, dtype=np.float32).reshape(-1)


def features_for(samples: FloatArray) -> FloatArray:
    """The features of a whole sound, (steps, 320); the last step is filled up with silence."""
    extractor = FeatureExtractor()
    return np.concatenate([extractor.push(samples), extractor.finish()])
