import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.bundle import Bundle
from device_agent.pipeline.speech import LOOK_AHEAD_STEPS, STEP_SAMPLES, SpeechGate, SpeechSettings, speech_span
from device_agent.pipeline.voice import read_voice
from tests.device_agent.portrait import BUNDLE, REFERENCE

Samples = np.ndarray
HANGOVER = SpeechSettings().hangover_steps


@functools.cache
def voices() -> dict[str, Samples]:
    found = {name: read_voice(REFERENCE / "assets" / f"voice-{name}.wav").samples for name in ("en", "zh")}
    with Bundle.open(BUNDLE) as bundle:
        found |= {clip.name: clip.audio for clip in bundle.golden_clips()}
    return {name: np.pad(voice, (0, -len(voice) % STEP_SAMPLES)) for name, voice in found.items()}


NAMES = ["en", "zh", "golden/base-1.wav", "golden/base-4.wav", "golden/mandarin-1.wav", "golden/mandarin-3.wav"]


def silence(steps: int) -> Samples:
    return np.zeros(steps * STEP_SAMPLES, np.float32)


def noise(count: int, dbfs: float) -> Samples:
    return (np.random.default_rng(5).normal(size=count) * 10 ** (dbfs / 20)).astype(np.float32)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.square(samples).mean()))


def answers(samples: Samples, gate: SpeechGate | None = None) -> np.ndarray:
    """One answer per step of the sound."""
    gate = gate or SpeechGate()
    steps = [*samples.reshape(-1, STEP_SAMPLES), *silence(LOOK_AHEAD_STEPS).reshape(-1, STEP_SAMPLES)]
    return np.array([gate.push(step) for step in steps])[LOOK_AHEAD_STEPS:]


def loud_steps(voice: Samples, within_db: float = 25) -> np.ndarray:
    """Steps within some dB of the voice's own level: somebody speaks there, whatever a gate says."""
    power = np.square(voice).reshape(-1, STEP_SAMPLES).mean(axis=1)
    return np.asarray(power > rms(voice) ** 2 * 10 ** (-within_db / 10))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gain_db", [0, -15, -28])
@pytest.mark.parametrize("snr_db", [None, 20, 10])
def test_no_word_of_a_voice_is_missed(name: str, gain_db: float, snr_db: float | None) -> None:
    voice = voices()[name] * np.float32(10 ** (gain_db / 20))
    sound = np.concatenate([silence(120), voice, silence(30), voice, silence(20)])
    # In a noise, what does not rise 3 dB above it can hardly be heard by anybody.
    loud = loud_steps(voice, 25 if snr_db is None else snr_db - 3)
    spoken = np.concatenate([np.zeros(120), loud, np.zeros(30), loud, np.zeros(20)]) > 0
    if snr_db is not None:
        sound = sound + noise(len(sound), 20 * np.log10(rms(voice)) - snr_db)
    missed = spoken & ~answers(sound)
    assert missed.sum() == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_is_open_before_the_first_sound_and_closes_after_the_last(name: str) -> None:
    voice = voices()[name]
    found = answers(np.concatenate([silence(50), voice, silence(50)]))
    first = 50 + int(np.flatnonzero(loud_steps(voice))[0])
    last = 50 + len(voice) // STEP_SAMPLES
    opened, closed = np.flatnonzero(found)[[0, -1]]
    assert first - 8 <= opened <= first - LOOK_AHEAD_STEPS
    assert closed <= last + HANGOVER


@pytest.mark.parametrize("name", ["en", "zh"])
def test_a_whisper_in_a_humming_room_is_speech(name: str) -> None:
    voice = voices()[name]
    # A whisper has the voice's envelope and no pitch: noise of the same loudness, with the low tones taken away.
    breath = np.diff(noise(len(voice) + 1, 0)) * np.repeat(np.sqrt(np.square(voice).reshape(-1, 160).mean(axis=1)), 160)
    breath = (breath * 0.03 / rms(breath)).astype(np.float32)
    sound = np.concatenate([silence(120), breath, silence(20)])
    hum = 0.03 * np.sin(2 * np.pi * 120 * np.arange(len(sound)) / 16_000).astype(np.float32)
    spoken = np.concatenate([np.zeros(120), loud_steps(breath), np.zeros(20)]) > 0
    assert (spoken & ~answers(sound + hum)).sum() == 0


@pytest.mark.parametrize("dbfs", [-40, -50, -70])
def test_a_steady_noise_is_learnt_within_four_seconds(dbfs: float) -> None:
    found = answers(noise(500 * STEP_SAMPLES, dbfs))
    assert not found[100 + HANGOVER :].any()


def test_a_sung_note_that_lasts_stays_speech() -> None:
    time = np.arange(250 * STEP_SAMPLES) / 16_000
    note = np.sum([np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 15)], axis=0)
    note = (0.1 * note / rms(note)).astype(np.float32)
    assert answers(note).all()


def test_silence_is_never_speech() -> None:
    assert not answers(silence(200)).any()
    assert not answers(noise(200 * STEP_SAMPLES, -66)).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from(NAMES))
def test_the_span_of_a_voice_moves_with_it(lead: int, tail: int, name: str) -> None:
    voice = voices()[name]
    alone = speech_span(np.concatenate([silence(3), voice, silence(3)]))
    span = speech_span(np.concatenate([silence(3 + lead), voice, silence(3 + tail)]))
    assert alone is not None
    assert span is not None
    assert span == (alone[0] + lead, alone[1] + lead)


@pytest.mark.parametrize("name", NAMES)
def test_the_span_holds_what_is_spoken_in_a_noisy_room(name: str) -> None:
    voice = voices()[name]
    sound = np.concatenate([silence(40), voice, silence(60)])
    span = speech_span(sound + noise(len(sound), 20 * np.log10(rms(voice)) - 15))
    assert span is not None
    spoken = 40 + np.flatnonzero(loud_steps(voice, 15))
    assert 36 <= span[0] <= spoken[0]
    assert spoken[-1] < span[1] <= 40 + len(voice) // STEP_SAMPLES


@pytest.mark.parametrize("dbfs", [-35, -45, -60, -80])
def test_a_voice_of_nothing_but_noise_has_no_span(dbfs: float) -> None:
    assert speech_span(noise(100 * STEP_SAMPLES, dbfs)) is None


@pytest.mark.parametrize("count", [0, 1, 640, 100_000])
def test_a_silent_voice_has_no_span(count: int) -> None:
    assert speech_span(np.zeros(count, np.float32)) is None


def test_a_single_syllable_is_speech_though_it_has_no_pause() -> None:
    voice = voices()["en"]
    middle = int(np.flatnonzero(loud_steps(voice))[5])
    assert speech_span(voice[middle * STEP_SAMPLES : (middle + 8) * STEP_SAMPLES]) is not None
