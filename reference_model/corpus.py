"""Spoken sentences with features and targets, ready to train on or to measure with."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from device_agent.pipeline.features import FloatArray, features_for
from reference_model.sentences import HELD_OUT, sentences
from reference_model.speech import Speaker, Utterance
from reference_model.visemes import targets_for

_VOICES = {"en": "en", "fr": "fr", "zh": "cmn-latn-pinyin"}
# Half of the training is said by the default voice.
_VARIANTS = ("", "", "+m3", "+f2")
_STEP_SECONDS = 0.04

Microphone = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Clip:
    """One sentence: samples, features (steps, 320) and targets (steps, 6) in mm."""

    samples: FloatArray
    features: FloatArray
    targets: FloatArray


@dataclass(frozen=True)
class Corpus:
    """Clips of one cohort."""

    clips: tuple[Clip, ...]

    @property
    def seconds(self) -> float:
        return sum(len(clip.targets) for clip in self.clips) * _STEP_SECONDS


def as_16_bit(samples: FloatArray) -> FloatArray:
    """What remains of samples in a 16-bit WAV, so that training hears what a frame will hear."""
    rounded = np.clip(np.round(samples * 32768.0), -32768, 32767)
    return np.asarray(rounded / 32768.0, dtype=np.float32)


def clip_from(utterance: Utterance, gain: float = 1.0, microphone: Microphone | None = None) -> Clip:
    """A clip of an utterance played at this gain, heard through a microphone."""
    samples = utterance.samples * np.float32(gain)
    samples = as_16_bit(samples if microphone is None else microphone(samples))
    return Clip(samples, features_for(samples), targets_for(utterance.phonemes, samples.size))


def training_corpus(
    speaker: Speaker,
    languages: Sequence[str],
    seconds: float,
    seed: int,
    variant: str = "",
    microphone: Microphone | None = None,
) -> Corpus:
    """Speak distinct sentences, the languages in turn, until there is enough; voice, speed, pitch, loudness vary.

    With a `variant` all voices are that one.
    """
    rng = random.Random(seed)
    texts = {language: sentences(language, rng) for language in languages}
    clips: list[Clip] = []
    length = 0.0
    while length < seconds:
        language = languages[len(clips) % len(languages)]
        voice = _VOICES[language] + (variant or rng.choice(_VARIANTS))
        utterance = speaker.speak(next(texts[language]), voice, rng.randint(125, 200), rng.randint(35, 65))
        clips.append(clip_from(utterance, rng.uniform(0.4, 1.2), microphone))
        length += len(clips[-1].targets) * _STEP_SECONDS
    return Corpus(tuple(clips))


def held_out_corpus(
    speaker: Speaker, languages: Sequence[str], variant: str = "", microphone: Microphone | None = None
) -> Corpus:
    """The held-out sentences of some languages, in turn, by the default voice or a variant of it such as "+f5"."""
    turns = zip(*(HELD_OUT[language] for language in languages), strict=True)
    spoken = [(language, text) for texts in turns for language, text in zip(languages, texts, strict=True)]
    return Corpus(tuple(say(speaker, language, text, variant, microphone) for language, text in spoken))


def say(speaker: Speaker, language: str, text: str, variant: str = "", microphone: Microphone | None = None) -> Clip:
    """One sentence at an ordinary speed by the default voice of its language, or a variant."""
    return clip_from(speaker.speak(text, _VOICES[language] + variant, 165, 50), microphone=microphone)
