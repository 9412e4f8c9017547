"""Spoken sentences with features and targets, ready to train on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from device_agent.pipeline.features import FloatArray, features_for
from reference_model.sentences import sentences
from reference_model.speech import Speaker, Utterance
from reference_model.visemes import targets_for

_VOICES = {"en": "en", "fr": "fr", "zh": "cmn-latn-pinyin"}
_VARIANTS = ("", "", "+m3", "+f2")


@dataclass(frozen=True)
class Clip:
    """One sentence: samples, features (steps, 320) and targets (steps, 6) in mm."""

    text: str
    samples: FloatArray
    features: FloatArray
    targets: FloatArray


@dataclass(frozen=True)
class Corpus:
    """Clips of one cohort."""

    clips: tuple[Clip, ...]

    @property
    def seconds(self) -> float:
        return sum(len(clip.targets) for clip in self.clips) * 0.04

    @property
    def texts(self) -> frozenset[str]:
        return frozenset(clip.text for clip in self.clips)


def clip_from(utterance: Utterance, text: str, gain: float = 1.0) -> Clip:
    samples = as_16_bit(utterance.samples * np.float32(gain))
    return Clip(text, samples, features_for(samples), targets_for(utterance.phonemes, samples.size))


def as_16_bit(samples: FloatArray) -> FloatArray:
    """What remains of samples in a 16-bit WAV, so that training hears what a frame will hear."""
    rounded = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.float32)
    return np.asarray(rounded / np.float32(32768.0), dtype=np.float32)


def speak_corpus(
    speaker: Speaker,
    languages: Sequence[str],
    seconds: float,
    seed: int,
    without: frozenset[str] = frozenset(),
    varied: bool = True,
) -> Corpus:
    """Speak distinct sentences until the corpus is long enough, the languages in turn.

    `varied` draws voice variant, speed, pitch and loudness; otherwise everything is the default voice.
    """
    rng = random.Random(seed)
    taken = frozenset(text.rstrip(".") for text in without)
    texts = {language: sentences(language, rng, taken) for language in languages}
    clips: list[Clip] = []
    length = 0.0
    while length < seconds:
        language = languages[len(clips) % len(languages)]
        text = next(texts[language])
        variant = rng.choice(_VARIANTS) if varied else ""
        speed, pitch, gain = rng.randint(125, 200), rng.randint(35, 65), rng.uniform(0.4, 1.2)
        if not varied:
            speed, pitch, gain = 160, 50, 1.0
        clip = clip_from(speaker.speak(text, _VOICES[language] + variant, speed, pitch), text, gain)
        clips.append(clip)
        length += len(clip.targets) * 0.04
    return Corpus(tuple(clips))


def speak_demo(speaker: Speaker, language: str, text: str, words_per_minute: int) -> Clip:
    return clip_from(speaker.speak(text, _VOICES[language], words_per_minute, 50), text)
