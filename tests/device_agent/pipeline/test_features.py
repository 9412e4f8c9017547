import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.features import (
    COEFFICIENTS,
    FEATURES_PER_STEP,
    STEP_SAMPLES,
    FeatureExtractor,
    features_for,
)


def noise(samples: int, seed: int = 1) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2_000), max_size=8))
def test_pieces_of_any_size_give_the_bits_of_the_whole(sizes: list[int]) -> None:
    sound = noise(sum(sizes))
    extractor = FeatureExtractor()
    ends = np.cumsum(sizes, dtype=int)
    pieces = [extractor.push(piece) for piece in np.split(sound, ends[:-1])] if sizes else []
    steps = np.concatenate([*pieces, extractor.finish()])
    assert np.array_equal(steps, features_for(sound))


@pytest.mark.parametrize(("samples", "steps"), [(0, 0), (1, 1), (640, 1), (641, 2), (6_400, 10)])
def test_every_started_40_ms_is_a_step(samples: int, steps: int) -> None:
    assert features_for(noise(samples)).shape == (steps, FEATURES_PER_STEP)


def test_a_step_hears_nothing_that_comes_after_it() -> None:
    sound = noise(10 * STEP_SAMPLES)
    other = sound.copy()
    other[5 * STEP_SAMPLES :] = noise(5 * STEP_SAMPLES, seed=2)
    assert np.array_equal(features_for(sound)[:5], features_for(other)[:5])
    assert not np.array_equal(features_for(sound)[5], features_for(other)[5])


def test_loudness_moves_the_first_coefficient_alone() -> None:
    sound = noise(8 * STEP_SAMPLES)
    change = (features_for(2 * sound) - features_for(sound)).reshape(-1, COEFFICIENTS)
    assert change[:, 0] == pytest.approx(math.log(4) * math.sqrt(COEFFICIENTS), abs=1e-3)
    assert np.abs(change[:, 1:]).max() < 1e-3


def test_silence_is_finite_and_the_same_in_every_step() -> None:
    steps = features_for(np.zeros(20 * STEP_SAMPLES, dtype=np.float32))
    assert np.isfinite(steps).all()
    assert (steps == steps[0]).all()


def test_rounding_noise_looks_like_silence() -> None:
    quiet = features_for(noise(4 * STEP_SAMPLES) * np.float32(1e-5))
    assert np.array_equal(quiet, features_for(np.zeros(4 * STEP_SAMPLES, dtype=np.float32)))


def test_tones_of_different_height_look_different() -> None:
    times = np.arange(4 * STEP_SAMPLES) / 16_000
    low, high = (features_for(np.sin(2 * np.pi * hertz * times).astype(np.float32)) for hertz in (300, 3_000))
    assert np.abs(low[-1] - high[-1]).max() > 5


def test_an_extractor_keeps_less_than_a_step_and_its_history() -> None:
    extractor = FeatureExtractor()
    for _ in range(50):
        extractor.push(noise(1_999))
    held = sum(value.size for value in vars(extractor).values())
    assert held < STEP_SAMPLES + 400
