"""What happens when: a voice, whole or live, as one `Moment` per frame.

A film begins with the voice's first step and ends a little after the last speech in it, however long the recording goes
on. Pauses belong to it. What is said of a live voice is known only as far as the motion model looks ahead.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from device_agent.pipeline.acting import NOTICE_STEPS, Motion
from device_agent.pipeline.features import STEP_SAMPLES
from device_agent.pipeline.motion import MotionStream
from device_agent.pipeline.ring import AudioRing
from device_agent.pipeline.speech import SpeechGate, SpeechSettings, speech_span
from device_agent.pipeline.stages import StageGraph
from device_agent.pipeline.voice import Voice, VoiceError
from device_agent.playback.video import sound_of

Samples = npt.NDArray[np.float32]

HOLD_STEPS: Final = 10
"""How long a film goes on after its last word: 0.4 s, in which the lips close."""
ENDS_AFTER_STEPS: Final = 50
"""A live voice that is silent for this long (2 s) has ended."""
WAITS_STEPS: Final = 250
"""A live source in which nobody speaks for this long (10 s) is given up."""
SILENT: Final = "There is no speech in this voice: record it again, nearer to the microphone."
_EDGE_STEPS: Final = 4
_READ_TIMEOUT_S: Final = 0.5
_DEAD_AFTER: Final = 20  # timeouts


@dataclass(frozen=True)
class Moment:
    """One frame: its motion (6,) in mm, its sound, and whether it and each of the next known steps is speech."""

    motion: Motion
    sound: Samples
    speaking: tuple[bool, ...]


def whole(graph: StageGraph, voice: Voice) -> Iterator[Moment]:
    """The moments of a recorded voice; the sound is at the voice's own rate. Raises VoiceError, RuntimeFailure."""
    span = speech_span(voice.samples)
    if span is None:
        raise VoiceError(SILENT)
    count = span[1] + HOLD_STEPS
    padded = np.zeros(count * STEP_SAMPLES, np.float32)
    padded[: len(voice.samples)] = voice.samples[: len(padded)]
    speaking = _speaking(_gate(graph), graph.manifest.audio.look_ahead_steps, padded, span)
    stream = MotionStream(graph)
    for index, motion in enumerate(_motions(stream, padded)):
        yield Moment(
            motion, sound_of(voice.sound, voice.rate, index), tuple(speaking[index : index + NOTICE_STEPS + 1])
        )


def live(graph: StageGraph, ring: AudioRing, waiting: Callable[[], None]) -> Iterator[Moment]:
    """The moments of a voice that arrives in `ring`; the sound is at 16 kHz. `waiting` is called while nothing comes.

    Ends at the end of the source or 2 s after the last word. Raises VoiceError, RuntimeFailure, what the source raised.
    """
    stream, gate = MotionStream(graph), _gate(graph)
    sounds: deque[Samples] = deque()
    spoken, quiet = False, 0

    def take(step: Samples) -> Iterator[Moment]:
        nonlocal spoken, quiet
        sounds.append(step)
        speaking = gate.push(step)
        for motion in stream.push(step):
            spoken, quiet = spoken or speaking, 0 if speaking else quiet + 1
            yield Moment(motion, sounds.popleft(), (speaking,))

    for step in _steps(ring, waiting):
        yield from take(step)
        if quiet >= (ENDS_AFTER_STEPS if spoken else WAITS_STEPS):
            break
    else:
        # The source has ended: what is due comes out, then the lips close.
        for _ in range(len(sounds) + max(0, HOLD_STEPS - quiet)):
            yield from take(np.zeros(STEP_SAMPLES, np.float32))
    if not spoken:
        raise VoiceError(SILENT)


def _motions(stream: MotionStream, samples: Samples) -> Iterator[Motion]:
    """All motion of `samples`, each step computed when it is asked for."""
    yield from stream.push(samples)
    yield from stream.finish()


def _speaking(gate: SpeechGate, late: int, samples: Samples, span: tuple[int, int]) -> list[bool]:
    """Whether each step is speech. The gate answers `late` steps late; `span` comes from the whole voice."""
    flags = [gate.push(step) for step in np.pad(samples, (0, late * STEP_SAMPLES)).reshape(-1, STEP_SAMPLES)][late:]
    first, last = span
    flags[first : first + _EDGE_STEPS] = [True] * _EDGE_STEPS
    return [flag and first <= index < last for index, flag in enumerate(flags)]


def _gate(graph: StageGraph) -> SpeechGate:
    """A gate that answers as late as this graph's motion."""
    return SpeechGate(SpeechSettings(look_ahead_steps=graph.manifest.audio.look_ahead_steps))


def _steps(ring: AudioRing, waiting: Callable[[], None]) -> Iterator[Samples]:
    dead = 0
    while dead < _DEAD_AFTER:
        try:
            step = ring.read(STEP_SAMPLES, _READ_TIMEOUT_S)
        except TimeoutError:
            dead += 1
            waiting()
            continue
        dead = 0
        if not len(step):
            return
        yield np.pad(step, (0, STEP_SAMPLES - len(step)))
    raise VoiceError("The voice stopped coming: check the microphone or the program that sends it.")
