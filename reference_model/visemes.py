"""From phonemes to mouth targets in mm, with the coarticulation of Cohen and Massaro (1993).

Each sound pulls the mouth towards its own pose. How strongly, per parameter, is its dominance, which fades with the
distance in time; the mouth takes the average of all poses, weighted by dominance. So lips close fully for "m" whatever
stands around it, and round early before "u", as speakers do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from device_agent.pipeline.features import SAMPLE_RATE, STEP_SAMPLES, FloatArray
from reference_model.speech import Phoneme

# Millimetres on a mouth 50 mm wide: name, smallest and largest value the renderer must draw.
PARAMETERS = (
    ("open", -1.0, 20.0),
    ("width", -14.0, 10.0),
    ("protrusion", -2.0, 12.0),
    ("jaw", -1.0, 16.0),
    ("tuck", -1.0, 6.0),
    ("tongue", -1.0, 12.0),
)

_FADE_PER_SECOND = 17.0
# Pauses shorter than this are closures between sounds, not silence.
_SHORTEST_PAUSE = 0.07


@dataclass(frozen=True)
class Viseme:
    """A pose (open, width, protrusion, jaw, tuck, tongue in mm) and the dominance of each of its values."""

    pose: tuple[float, float, float, float, float, float]
    dominance: tuple[float, float, float, float, float, float]


_EVEN = (1.0, 1.0, 1.0, 1.0, 0.6, 0.8)
_REST = Viseme((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.7, 0.7, 0.7, 0.7, 0.7, 0.7))

# One line per class of sounds; a sound belongs to the class that lists it.
_CLASSES: tuple[tuple[str, Viseme], ...] = (
    ("p b m", Viseme((0.0, 0.0, 0.75, 1.5, 0.0, 0.5), (6.0, 0.5, 0.5, 1.0, 1.0, 0.4))),
    ("f v ɱ", Viseme((2.0, 0.75, 0.0, 2.0, 4.0, 0.5), (3.0, 0.6, 0.6, 1.2, 5.0, 0.4))),
    ("θ ð", Viseme((4.5, 0.75, 0.0, 3.5, 0.0, 8.0), (1.2, 0.5, 0.4, 1.0, 1.0, 4.0))),
    ("t d n ɾ", Viseme((4.0, 0.75, 0.0, 3.0, 0.0, 6.0), (0.8, 0.3, 0.3, 0.9, 1.0, 2.5))),
    ("l ɬ ɫ", Viseme((5.5, 0.75, 0.0, 4.5, 0.0, 7.0), (0.9, 0.3, 0.3, 0.9, 1.0, 2.5))),
    ("s z ts dz", Viseme((3.0, 2.5, 0.0, 1.5, 0.0, 4.0), (1.4, 0.9, 0.6, 2.0, 1.0, 1.5))),
    ("ɕ ʑ tɕ dʑ ç", Viseme((3.5, 2.25, 0.75, 2.0, 0.0, 4.5), (1.2, 0.9, 0.6, 1.6, 1.0, 1.5))),
    ("ʃ ʒ tʃ dʒ", Viseme((5.0, -3.0, 5.0, 2.0, 0.0, 4.0), (1.4, 1.6, 2.2, 1.8, 1.0, 1.5))),
    ("ʂ ʐ tʂ", Viseme((4.5, -2.0, 3.0, 2.0, 0.0, 3.0), (1.3, 1.2, 1.5, 1.6, 1.0, 1.5))),
    ("ɹ ɻ r", Viseme((5.0, -2.25, 3.0, 4.0, 0.0, 3.0), (1.0, 1.1, 1.3, 1.0, 0.8, 1.2))),
    ("k g ɡ ŋ x χ h ɦ ʁ ʔ q ɣ ɲ", Viseme((6.0, 0.0, 0.0, 5.0, 0.0, 1.0), (0.5, 0.25, 0.25, 0.6, 0.8, 0.8))),
    ("j ɥ", Viseme((4.5, 3.5, 0.0, 3.5, 0.0, 5.0), (0.9, 1.0, 0.8, 0.9, 0.6, 1.0))),
    ("w ʍ", Viseme((3.0, -6.75, 6.5, 3.0, 0.0, 0.5), (1.8, 2.4, 2.4, 1.0, 0.6, 0.6))),
    ("i ɪ ɨ", Viseme((5.0, 4.0, 0.0, 4.0, 0.0, 4.5), _EVEN)),
    ("e ɛ", Viseme((8.5, 3.0, 0.0, 7.0, 0.0, 3.0), _EVEN)),
    ("a æ ɐ", Viseme((13.0, 1.5, 0.0, 11.0, 0.0, 1.5), _EVEN)),
    ("ɑ ɒ", Viseme((12.5, -1.0, 1.25, 11.0, 0.0, 0.5), _EVEN)),
    ("ə ʌ ɜ ɤ ɚ ɯ", Viseme((7.5, 0.5, 0.5, 6.0, 0.0, 1.5), (0.8, 0.7, 0.7, 0.8, 0.6, 0.7))),
    ("ɔ o", Viseme((9.0, -4.5, 4.25, 8.0, 0.0, 0.5), (1.0, 1.4, 1.4, 1.0, 0.6, 0.8))),
    ("u ʊ ʉ", Viseme((4.5, -6.5, 6.0, 4.0, 0.0, 0.5), (1.2, 1.8, 1.8, 1.0, 0.6, 0.8))),
    ("y ʏ", Viseme((4.0, -5.0, 5.5, 3.5, 0.0, 4.0), (1.2, 1.6, 1.8, 1.0, 0.6, 0.9))),
    ("ø œ", Viseme((7.0, -4.0, 4.75, 6.0, 0.0, 2.5), (1.0, 1.4, 1.5, 1.0, 0.6, 0.8))),
)
_BY_SOUND = {sound: viseme for sounds, viseme in _CLASSES for sound in sounds.split()}
# espeak-ng writes Mandarin's retroflex sounds with a dot; "i." is the vowel after them.
_SPELLINGS = (("ts.", "tʂ"), ("s.", "ʂ"), ("z.", "ʐ"), ("i.", "ɨ"), ("ɝ", "ɜ"), ("ɹ̩", "ɹ"))

# Length, aspiration and the like: they change a sound, not the lips.
_MODIFIERS = "hʰʲʷːˑ"


class UnknownSound(ValueError):
    """A phoneme that no viseme covers."""


def visemes_for(ipa: str) -> tuple[Viseme, ...]:
    """The visemes of one phoneme, in order: two for a diphthong, none for a mark without a sound of its own."""
    text = ipa
    for spelling, sound in _SPELLINGS:
        text = text.replace(spelling, sound)
    found: list[Viseme] = []
    index = 0
    while index < len(text):
        for length in (2, 1):
            viseme = _BY_SOUND.get(text[index : index + length])
            # An "h" after another consonant is aspiration, not a sound that moves the lips.
            if viseme is not None and not (text[index] == "h" and index > 0):
                found.append(viseme)
                index += length
                break
        else:
            if text[index].isalpha() and text[index] not in _MODIFIERS:
                raise UnknownSound(f"No viseme covers {text[index]!r} in {ipa!r}.")
            index += 1
    return tuple(found)


def _segments(phonemes: Sequence[Phoneme], seconds: float) -> Iterator[tuple[Viseme, float, float]]:
    """Every viseme with its start and end in seconds, silence before and after the sounds included."""
    position = 0.0
    for phoneme in phonemes:
        visemes = visemes_for(phoneme.ipa)
        if not visemes:
            if not phoneme.ipa and phoneme.end - phoneme.start >= _SHORTEST_PAUSE:
                yield _REST, phoneme.start, phoneme.end
            position = max(position, phoneme.end)
            continue
        if phoneme.start - position >= _SHORTEST_PAUSE:
            yield _REST, position, phoneme.start
        share = (phoneme.end - phoneme.start) / len(visemes)
        for index, viseme in enumerate(visemes):
            yield viseme, phoneme.start + index * share, phoneme.start + (index + 1) * share
        position = phoneme.end
    yield _REST, -0.3, 0.0
    yield _REST, position, max(seconds, position) + 0.3


def targets_for(phonemes: Sequence[Phoneme], samples: int) -> FloatArray:
    """The mouth's motion for a sound of this many samples, (steps, 6) in mm; a step counts at its middle."""
    steps = math.ceil(samples / STEP_SAMPLES)
    times = (np.arange(steps) + 0.5) * (STEP_SAMPLES / SAMPLE_RATE)
    weighted = np.zeros((steps, len(PARAMETERS)))
    weights = np.full((steps, len(PARAMETERS)), 1e-9)
    for viseme, start, end in _segments(phonemes, samples / SAMPLE_RATE):
        # Full dominance in the middle half of a sound, so that long vowels hold their pose.
        centre, held = (start + end) / 2, (end - start) / 4
        distance = np.maximum(0.0, np.abs(times - centre) - held)
        dominance = np.exp(-_FADE_PER_SECOND * distance)[:, None] * np.array(viseme.dominance)
        weighted += dominance * np.array(viseme.pose)
        weights += dominance
    return np.asarray(weighted / weights, dtype=np.float32)
