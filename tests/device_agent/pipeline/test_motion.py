import math
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.bundle import Bundle
from device_agent.bundle.manifest import FloatArray
from device_agent.pipeline.features import STEP_SAMPLES
from device_agent.pipeline.motion import MAX_WAITING, MotionStream, motion_for
from device_agent.pipeline.stages import StageGraph
from device_agent.runtime import RuntimeFailure
from tests.reference_model.artifacts import bundle, graph, mandarin, with_manifest


def speech(steps: float, offset: int = 0) -> FloatArray:
    """Real speech of this many steps: the golden clips one after the other."""
    sound = np.concatenate([clip.audio for clip in bundle().golden_clips()])
    return sound[offset : offset + round(steps * STEP_SAMPLES)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=8))
def test_pieces_of_any_size_give_the_same_motion(sizes: list[int]) -> None:
    sound = speech(sum(sizes) / STEP_SAMPLES)
    stream = MotionStream(graph())
    steps = [step for piece in np.split(sound, np.cumsum(sizes)[:-1]) for step in stream.push(piece)]
    steps += stream.finish()
    expected = motion_for(graph(), sound)
    assert np.array_equal(np.array(steps).reshape(expected.shape), expected)


@pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 16_000])
def test_every_started_40_ms_gives_one_motion(samples: int) -> None:
    motion = motion_for(graph(), speech(25)[:samples])
    assert motion.shape == (math.ceil(samples / STEP_SAMPLES), 6)
    assert motion.dtype == np.float32


def test_motion_starts_80_ms_after_the_first_sound() -> None:
    stream = MotionStream(graph())
    assert list(stream.push(speech(2))) == []
    assert len(list(stream.push(speech(1, 2 * STEP_SAMPLES)))) == 1


def test_the_lips_hear_80_ms_ahead_and_no_further() -> None:
    sound = speech(40)
    other = sound.copy()
    other[30 * STEP_SAMPLES :] = 0.0
    first, second = motion_for(graph(), sound), motion_for(graph(), other)
    assert np.array_equal(first[:28], second[:28])
    assert not np.array_equal(first[28], second[28])


def test_what_was_said_long_ago_leaves_no_trace() -> None:
    # Four layers that each look back 24 steps see at most 96, and a feature looks back less than one more.
    ending = speech(140, 60 * STEP_SAMPLES)
    after_speech = motion_for(graph(), np.concatenate([speech(60), ending]))[-140:]
    after_silence = motion_for(graph(), np.concatenate([np.zeros(60 * STEP_SAMPLES, np.float32), ending]))[-140:]
    # At the seam they differ, so the comparison below is not one of two equal sounds.
    assert np.abs(after_speech[:20] - after_silence[:20]).max() > 0.05
    assert np.abs(after_speech[100:] - after_silence[100:]).max() < 1e-4


def test_a_long_sound_takes_no_more_memory_than_its_window() -> None:
    stream = MotionStream(graph())
    for _ in range(3):
        assert len(list(stream.push(speech(100)))) >= 98
    assert stream._states["motion"]["kv_in"].shape == bundle().manifest.stage("motion").input("kv_in").shape
    assert not stream._waiting


def test_an_hour_at_once_is_not_unfolded_before_it_is_asked_for() -> None:
    hour = np.zeros(3_600 * 16_000, np.float32)
    stream = MotionStream(graph())
    tracemalloc.start()
    try:
        motion = stream.push(hour)
        assert all(np.isfinite(next(motion)).all() for _ in range(50))
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_only_so_many_pieces_wait() -> None:
    stream = MotionStream(graph())
    piece = speech(0.25)
    for _ in range(MAX_WAITING):
        due = stream.push(piece)
    with pytest.raises(ValueError, match="ask for their motion"):
        stream.push(piece)
    assert len(list(due)) + len(list(stream.finish())) == MAX_WAITING / 4


@pytest.mark.slow
def test_ten_minutes_neither_drift_nor_grow() -> None:
    clips = [clip for clip in bundle().golden_clips() if clip.segment == "base"]
    sound = np.concatenate([np.pad(clip.audio, (0, -len(clip.audio) % STEP_SAMPLES)) for clip in clips])
    expected = np.concatenate([clip.expected for clip in clips])
    rounds = math.ceil(600 * 16_000 / len(sound))
    stream = MotionStream(graph())
    spoken: list[FloatArray] = []
    memory: list[int] = []
    for number in range(rounds):
        motion = list(stream.push(sound))
        if number == rounds - 1:
            motion += stream.finish()
        spoken.append(np.stack(motion))
        memory.append(resident_bytes())
    steps = np.concatenate(spoken).reshape(rounds, len(expected), 6)
    # The first round has nothing before it and the last one nothing after it; those between are the same sound.
    errors = np.abs(steps[1:-1] - expected).mean(axis=(1, 2))
    minute = math.ceil(60 * 16_000 / len(sound))
    assert errors[:minute].mean() < 0.45
    assert abs(errors[-minute:].mean() - errors[:minute].mean()) < 1e-5
    assert np.abs(steps[1:-1] - steps[1]).max() < 1e-4
    assert memory[-1] - memory[minute] < 8e6


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_an_iterator_left_early_loses_nothing() -> None:
    sound = speech(20)
    stream = MotionStream(graph())
    steps = [next(stream.push(sound[: 10 * STEP_SAMPLES]))]
    steps += stream.push(sound[10 * STEP_SAMPLES :])
    steps += stream.finish()
    assert np.array_equal(np.stack(steps), motion_for(graph(), sound))


def test_a_finished_stream_takes_no_more_sound() -> None:
    stream = MotionStream(graph())
    list(stream.finish())
    assert list(stream.finish()) == []
    with pytest.raises(ValueError, match="start a new one"):
        stream.push(speech(1))


def test_motion_stays_in_the_range_the_renderer_draws() -> None:
    rng = np.random.default_rng(1)
    loud = rng.uniform(-1, 1, 60 * STEP_SAMPLES).astype(np.float32)
    motion = motion_for(graph(), loud)
    for column, parameter in zip(motion.T, bundle().manifest.motion.parameters, strict=True):
        assert parameter.minimum <= column.min() <= column.max() <= parameter.maximum


def test_a_sound_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(RuntimeFailure, match="not finite"):
        motion_for(graph(), np.full(4 * STEP_SAMPLES, np.nan, np.float32))


def test_an_adapter_changes_the_motion_at_once_and_leaves_nothing_behind() -> None:
    sound = speech(60)
    plain = motion_for(graph(), sound)
    try:
        graph().set_adapter(mandarin())
        assert np.abs(motion_for(graph(), sound) - plain).mean() > 0.05
    finally:
        graph().set_adapter(None)
    assert np.array_equal(motion_for(graph(), sound), plain)


def test_a_bundle_that_wants_other_features_is_refused() -> None:
    odd = StageGraph(Bundle.open(with_manifest(lambda manifest: manifest["audio"].update(sample_rate=8_000))))
    with pytest.raises(RuntimeFailure, match="update the agent"):
        MotionStream(odd)
