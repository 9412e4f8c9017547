import numpy as np
import pytest

from reference_model.speech import Phoneme
from reference_model.visemes import PARAMETERS, UnknownSound, targets_for, visemes_for

OPEN, WIDTH, PROTRUSION, JAW, TUCK, TONGUE = range(6)


def said(*sounds: str, each: float = 0.12) -> tuple[tuple[Phoneme, ...], int]:
    """Sounds one after the other, after and before 200 ms of silence; and the samples they last."""
    phonemes = tuple(Phoneme(sound, 0.2 + index * each, 0.2 + (index + 1) * each) for index, sound in enumerate(sounds))
    return phonemes, round(16_000 * (0.4 + len(sounds) * each))


def at(index: int, each: float = 0.12) -> int:
    """The step at the middle of a sound."""
    return int((0.2 + (index + 0.5) * each) / 0.04)


def test_lips_close_for_m_between_open_vowels() -> None:
    targets = targets_for(*said("a", "m", "a"))
    closed = at(1)
    assert targets[:closed, OPEN].max() > 6
    assert targets[closed:, OPEN].max() > 6
    assert targets[closed, OPEN] < 1.5


def test_f_tucks_the_lower_lip_and_nothing_else_does() -> None:
    targets = targets_for(*said("a", "f", "a"))
    assert targets[at(1), TUCK] > 2
    assert targets_for(*said("a", "m", "a"))[:, TUCK].max() < 0.1


def test_lips_round_for_u_and_spread_for_i() -> None:
    rounded, spread = targets_for(*said("u"))[at(0)], targets_for(*said("i"))[at(0)]
    assert rounded[PROTRUSION] > 3 > spread[PROTRUSION]
    assert rounded[WIDTH] < -3 < 2 < spread[WIDTH]


def test_rounding_begins_before_the_rounded_sound() -> None:
    before_u = targets_for(*said("s", "u"))[at(0), PROTRUSION]
    before_i = targets_for(*said("s", "i"))[at(0), PROTRUSION]
    assert before_u > before_i + 0.5


def test_silence_rests() -> None:
    assert np.abs(targets_for((), 16_000)).max() < 1e-3


def test_targets_have_a_row_per_started_step_and_stay_in_range() -> None:
    phonemes, samples = said("a", "u", "f", "θ", "ɔɪ", "tʃ", "iou")
    targets = targets_for(phonemes, samples)
    assert targets.shape == (-(-samples // 640), len(PARAMETERS))
    for column, (_, lowest, highest) in zip(targets.T, PARAMETERS, strict=True):
        assert lowest <= column.min() <= column.max() <= highest


@pytest.mark.parametrize(
    ("ipa", "count"), [("eɪ", 2), ("iou", 3), ("tʃ", 1), ("ts.h", 1), ("ɑː", 1), ("", 0), ("h", 1)]
)
def test_a_phoneme_has_a_viseme_per_movement(ipa: str, count: int) -> None:
    assert len(visemes_for(ipa)) == count


def test_a_sound_without_a_viseme_is_named() -> None:
    with pytest.raises(UnknownSound, match="ж"):
        visemes_for("ж")
