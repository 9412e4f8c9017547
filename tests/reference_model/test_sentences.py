import itertools
import random

import pytest

from reference_model.sentences import DEMO_EN, DEMO_ZH, HELD_OUT, sentences, syllables


@pytest.mark.parametrize("language", ["en", "fr", "zh"])
def test_a_seed_gives_the_same_distinct_sentences(language: str) -> None:
    first, second = (list(itertools.islice(sentences(language, random.Random(3)), 400)) for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("language", ["en", "fr", "zh"])
def test_nothing_that_is_measured_is_trained_on(language: str) -> None:
    drawn = set(itertools.islice(sentences(language, random.Random(7)), 3_000))
    assert drawn.isdisjoint({*HELD_OUT[language], DEMO_EN, DEMO_ZH})


def test_the_demo_sentences_are_not_among_the_golden_ones() -> None:
    assert {DEMO_EN, DEMO_ZH}.isdisjoint({text for texts in HELD_OUT.values() for text in texts})


def test_mandarin_training_covers_every_syllable() -> None:
    assert len(set(syllables())) == len(syllables()) > 380
    drawn = " ".join(itertools.islice(sentences("zh", random.Random(1)), 1_000))
    said = {word.strip(".")[:-1] for word in drawn.split()}
    assert set(syllables()) <= said
