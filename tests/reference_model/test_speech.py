import numpy as np
import pytest

from reference_model.sentences import HELD_OUT, syllables
from reference_model.speech import Speaker, SpeechError
from reference_model.visemes import targets_for, visemes_for


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    try:
        return Speaker()
    except SpeechError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("voice", "text"),
    [("en", HELD_OUT["en"][0]), ("fr", HELD_OUT["fr"][0]), ("cmn-latn-pinyin", HELD_OUT["zh"][0])],
)
def test_speech_comes_with_its_phonemes_in_order(speaker: Speaker, voice: str, text: str) -> None:
    utterance = speaker.speak(text, voice, 165, 50)
    assert 1.0 < utterance.seconds < 6.0
    assert 0.1 < np.abs(utterance.samples).max() <= 1.0
    starts = [phoneme.start for phoneme in utterance.phonemes]
    assert starts == sorted(starts)
    assert all(phoneme.end > phoneme.start for phoneme in utterance.phonemes)
    assert utterance.phonemes[-1].end <= utterance.seconds + 0.05
    assert targets_for(utterance.phonemes, utterance.samples.size)[:, 0].max() > 5


def test_the_mouth_opens_while_there_is_sound(speaker: Speaker) -> None:
    utterance = speaker.speak("Pa pa pa pa.", "en", 140, 50)
    targets = targets_for(utterance.phonemes, utterance.samples.size)
    loudness = np.array([np.abs(part).mean() for part in np.array_split(utterance.samples, len(targets))])
    loud = loudness > np.median(loudness)
    assert targets[loud, 0].mean() > 1.5 * targets[~loud, 0].mean()


def test_every_mandarin_syllable_has_visemes(speaker: Speaker) -> None:
    for start in range(0, len(syllables()), 12):
        text = " ".join(f"{syllable}1" for syllable in syllables()[start : start + 12])
        for phoneme in speaker.speak(text, "cmn-latn-pinyin", 180, 50).phonemes:
            visemes_for(phoneme.ipa)


def test_an_unknown_voice_is_named(speaker: Speaker) -> None:
    with pytest.raises(SpeechError, match="no voice klingon-xx"):
        speaker.speak("hello", "klingon-xx", 160, 50)
