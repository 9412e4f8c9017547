"""Is somebody speaking? One answer per 40 ms step, from how loud the step is against the room.

A step is speech when, in one of five bands of the spectrum, it stands out from the noise floor, the quietest that this
band has been in the last seconds: a voice shows in the low bands above a microphone's hiss, a whisper in the high ones
above hum and rumble. What is lower than about -58 dBFS in all never is speech. The gate opens at a higher mark than it
closes at, and stays open for the short pauses between words. In doubt it says speech: lips that move in a noise annoy
less than lips that miss a word.

The answers come as late as the motion model's, so that a mouth is already moving when the first sound is heard.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float64]

SAMPLE_RATE: Final = 16_000
STEP_SAMPLES: Final = 640
LOOK_AHEAD_STEPS: Final = 2
_BAND_EDGES_HZ: Final = (100, 400, 1_000, 2_000, 4_000, 7_600)
_FRAME: Final = 320
_HOP: Final = 160
_QUIETEST: Final = -90.0
# Steps a voice must last to be measured against its own quietest moment.
_KNOWS_ITS_ROOM: Final = 25

_WINDOW: Final = np.hanning(_FRAME + 1)[:-1]
# So that a full-scale square wave has 0 dBFS over all bands.
_SCALE: Final = 2.0 / (_FRAME * float(np.square(_WINDOW).sum()))
_EDGES: Final = np.array(_BAND_EDGES_HZ) * _FRAME // SAMPLE_RATE
_STARTS: Final = np.arange(STEP_SAMPLES // _HOP)[:, None] * _HOP + np.arange(_FRAME)


@dataclass(frozen=True)
class SpeechSettings:
    """Levels in dBFS, differences in dB, times in 40 ms steps.

    `lowest`: a step that is quieter over all bands is never speech. `open_above`, `stay_above`: how far over its noise
    floor a band must be to open the gate and to keep it open. `highest_floor`: no room is louder in a band; louder
    sound is somebody. `floor_steps`: how long the floor looks back. `hangover_steps`: how long the gate stays open
    without sound, for pauses between words.
    """

    lowest: float = -58.0
    open_above: float = 9.0
    stay_above: float = 6.0
    highest_floor: float = -35.0
    floor_steps: int = 100
    hangover_steps: int = 8
    look_ahead_steps: int = LOOK_AHEAD_STEPS


class SpeechGate:
    """Takes a sound step by step. Holds the levels of `floor_steps` steps and a few flags, however long the sound."""

    def __init__(self, settings: SpeechSettings | None = None, floor: Levels | None = None) -> None:
        """`floor`: the room's noise in dBFS, (5,), where it is known; a live sound starts without and learns it."""
        self._settings = settings = settings or SpeechSettings()
        self._smooth = np.full(len(_EDGES) - 1, _QUIETEST) if floor is None else floor
        self._floors = np.tile(self._smooth, (settings.floor_steps, 1))
        self._position = 0
        self._before = np.zeros(_FRAME - _HOP, np.float32)
        self._open = False
        self._quiet_for = settings.hangover_steps + 1
        self._ahead = deque([False] * (settings.look_ahead_steps + 1), maxlen=settings.look_ahead_steps + 1)

    def push(self, step: Samples) -> bool:
        """Take (640,) samples in -1..1; say whether the step `look_ahead_steps` before this one is speech.

        As with MotionStream, the first answers belong to nothing, and the end of a sound is followed by
        `look_ahead_steps` steps of silence.
        """
        self._ahead.append(self.stands_out(step))
        self._quiet_for = 0 if self._ahead[0] else min(self._quiet_for + 1, self._settings.hangover_steps + 1)
        return any(self._ahead) or self._quiet_for <= self._settings.hangover_steps

    def stands_out(self, step: Samples) -> bool:
        """Take (640,) samples; say at once whether this step is speech by itself, without look-ahead and hangover.

        Use either this or `push` on one gate.
        """
        settings = self._settings
        bands = levels(step, self._before)
        self._before = step[-len(self._before) :].copy()
        floor = np.minimum(self._floors.min(axis=0), settings.highest_floor)
        # A single quiet step, such as the closure of a "p", is no evidence of a quiet room.
        self._smooth = self._smooth + 0.5 * (bands - self._smooth)
        self._floors[self._position] = np.maximum(bands, self._smooth)
        self._position = (self._position + 1) % settings.floor_steps
        over = settings.stay_above if self._open else settings.open_above
        whole = 10 * np.log10(np.sum(10 ** (bands / 10)))
        self._open = bool(whole > settings.lowest and (bands > floor + over).any())
        return self._open


def levels(step: Samples, before: Samples) -> Levels:
    """The level of (640,) samples in each band, (5,) in dBFS; `before` (160,) are the samples before them."""
    frames = np.concatenate([before, step])[_STARTS]
    spectrum = np.fft.rfft(frames * _WINDOW, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0) * _SCALE
    bands = np.add.reduceat(power[: _EDGES[-1]], _EDGES[:-1])
    return np.asarray(np.maximum(_QUIETEST, 10 * np.log10(bands + 1e-12)))


def speech_span(samples: Samples) -> tuple[int, int] | None:
    """Where a whole voice (n,) speaks: the first step of speech and one past the last, or None where it never does.

    A voice of a second or more is measured against its own quietest moment; a shorter one may be all speech. The span
    begins `LOOK_AHEAD_STEPS` early, because a mouth opens before its sound.
    """
    steps = np.pad(samples, (0, -len(samples) % STEP_SAMPLES)).reshape(-1, STEP_SAMPLES)
    gate = SpeechGate(floor=_quietest(steps) if len(steps) >= _KNOWS_ITS_ROOM else None)
    speaking = [index for index, step in enumerate(steps) if gate.stands_out(step)]
    if not speaking:
        return None
    return max(0, speaking[0] - LOOK_AHEAD_STEPS), speaking[-1] + 1


def _quietest(steps: Samples) -> Levels:
    """The lowest level in each band that lasts for three steps, (5,) in dBFS."""
    before = np.zeros(_FRAME - _HOP, np.float32)
    rows = []
    for step in steps:
        rows.append(levels(step, before))
        before = step[-len(before) :]
    table = np.array(rows)
    return np.asarray(np.maximum(np.maximum(table[:-2], table[1:-1]), table[2:]).min(axis=0))
