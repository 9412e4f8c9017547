import numpy as np

from reference_model.microphone import through_poor_microphone

RATE = 16_000
TIME = np.arange(RATE) / RATE


def test_a_poor_microphone_gives_the_same_sound_each_time_and_keeps_its_length() -> None:
    sound = np.asarray(0.3 * np.sin(2 * np.pi * 440 * TIME), np.float32)
    first, second = through_poor_microphone(sound), through_poor_microphone(sound)
    assert np.array_equal(first, second)
    assert (first.shape, first.dtype) == (sound.shape, sound.dtype)
    assert np.abs(first).max() <= 1.0


def test_it_hears_neither_deep_nor_high_sounds_and_hisses() -> None:
    def loudness_at(hertz: int) -> float:
        sound = 0.2 * np.sin(2 * np.pi * hertz * TIME) + 0.2 * np.sin(2 * np.pi * 1000 * TIME)
        spectrum = np.abs(np.fft.rfft(through_poor_microphone(np.asarray(sound, np.float32))))
        return float(spectrum[hertz] / spectrum[1000])

    assert loudness_at(100) < 0.05
    assert loudness_at(6000) < 0.05
    assert loudness_at(2000) > 0.9
    assert np.abs(through_poor_microphone(np.asarray(0.2 * np.sin(2 * np.pi * 1000 * TIME), np.float32))).std() > 0.01


def test_silence_stays_silent() -> None:
    assert not through_poor_microphone(np.zeros(800, np.float32)).any()
