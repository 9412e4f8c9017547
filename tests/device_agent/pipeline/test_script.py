import numpy as np
import pytest

from device_agent.bundle import Bundle
from device_agent.pipeline import script
from device_agent.pipeline.ring import AudioRing
from device_agent.pipeline.script import ENDS_AFTER_STEPS, HOLD_STEPS, WAITS_STEPS, Moment
from device_agent.pipeline.stages import StageGraph
from device_agent.pipeline.voice import Resampler, Voice, VoiceError, read_voice
from tests.device_agent.portrait import BUNDLE, VOICE

STEP = 640


def speech() -> np.ndarray:
    return read_voice(VOICE).samples


def silence(steps: int) -> np.ndarray:
    return np.zeros(steps * STEP, np.float32)


def recorded(*parts: np.ndarray) -> list[Moment]:
    samples = np.concatenate(parts)
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph:
        return list(script.whole(graph, Voice(samples, samples, 16_000)))


def spoken(*parts: np.ndarray, finish: bool = True) -> list[Moment]:
    ring = AudioRing(live=True)
    for part in parts:
        ring.write(part)
    if finish:
        ring.finish()
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph:
        return list(script.live(graph, ring, lambda: None))


def speaking(moments: list[Moment]) -> list[int]:
    return [index for index, moment in enumerate(moments) if moment.speaking[0]]


def test_a_film_ends_with_its_speech_and_not_with_its_recording() -> None:
    alone, with_tail = recorded(speech()), recorded(speech(), silence(400))
    assert abs(len(alone) - len(with_tail)) <= 2
    assert len(alone) < len(speech()) / STEP + HOLD_STEPS + 1
    last = speaking(with_tail)[-1]
    assert len(with_tail) - last - 1 == HOLD_STEPS
    assert sum(len(moment.sound) for moment in with_tail) == len(with_tail) * STEP


def test_silence_before_speech_and_pauses_belong_to_the_film() -> None:
    one = speech()[: 40 * STEP]
    moments = recorded(silence(50), one, silence(60), one)
    flags = speaking(moments)
    assert 46 <= flags[0] <= 50
    assert not any(105 <= index < 145 for index in flags), "the pause is taken for speech"
    assert any(index >= 150 for index in flags), "speech after the pause is lost"
    assert moments[30].speaking[-1] is False
    assert moments[40].speaking[-1] is True, "nobody is told that speech will come"


def test_the_sound_of_a_film_is_the_voice_as_it_was_recorded() -> None:
    samples = speech()
    resampler = Resampler(16_000, 44_100)
    sound = np.concatenate([resampler.push(samples), resampler.finish()])
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph:
        moments = list(script.whole(graph, Voice(samples, sound, 44_100)))
    played = np.concatenate([moment.sound for moment in moments])
    assert len(played) == len(moments) * 44_100 // 25
    kept = min(len(played), len(sound))
    assert np.array_equal(played[:kept], sound[:kept])
    assert not played[kept:].any()


def test_a_voice_without_speech_is_refused() -> None:
    for parts in ([silence(100)], [np.full(100 * STEP, 1e-4, np.float32)]):
        with pytest.raises(VoiceError, match=r"^There is no speech in this voice: .+\.$"):
            recorded(*parts)
        with pytest.raises(VoiceError, match=r"^There is no speech in this voice: .+\.$"):
            spoken(*parts)


def test_live_and_recorded_speech_give_the_same_motion() -> None:
    whole, live = recorded(speech()), spoken(speech())
    count = min(len(whole), len(live), len(speech()) // STEP - 4)
    assert count > 100
    for one, other in zip(whole[:count], live[:count], strict=True):
        assert np.array_equal(one.motion, other.motion)
        assert np.array_equal(one.sound, other.sound)


def test_a_live_voice_ends_two_seconds_after_its_last_word_though_the_source_goes_on() -> None:
    moments = spoken(speech(), silence(500), finish=False)
    quiet = len(moments) - 1 - speaking(moments)[-1]
    assert quiet == ENDS_AFTER_STEPS


def test_live_speech_after_a_pause_continues_the_film() -> None:
    one = speech()[: 40 * STEP]
    moments = spoken(silence(20), one, silence(ENDS_AFTER_STEPS - 15), one)
    assert len(moments) == 20 + 40 + ENDS_AFTER_STEPS - 15 + 40 + HOLD_STEPS
    assert speaking(moments)[-1] > 100


def test_a_live_source_in_which_nobody_speaks_is_given_up() -> None:
    ring = AudioRing(live=True)
    ring.write(silence(WAITS_STEPS + 100))
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph, pytest.raises(VoiceError, match="no speech"):
        list(script.live(graph, ring, lambda: None))
    assert len(ring) > 90 * STEP, "it listened on"


def test_a_live_source_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_READ_TIMEOUT_S", 0.01)
    ring = AudioRing(live=True)
    ring.write(speech()[: 20 * STEP])
    waited: list[None] = []
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph, pytest.raises(VoiceError, match="stopped coming"):
        list(script.live(graph, ring, lambda: waited.append(None)))
    assert waited


def test_what_a_live_source_failed_with_comes_out() -> None:
    ring = AudioRing(live=True)
    ring.write(speech()[: 20 * STEP])
    ring.finish(VoiceError("The microphone was unplugged."))
    with Bundle.open(BUNDLE) as bundle, StageGraph(bundle) as graph, pytest.raises(VoiceError, match="unplugged"):
        list(script.live(graph, ring, lambda: None))
