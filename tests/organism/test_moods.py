"""Moods: one feeling after every sentence, from all levels shown so far."""

import pytest

from emocircuits.organism.corpus import generate
from emocircuits.organism.feelings import emotion_posterior


def test_the_last_feeling_is_that_of_everything_shown():
    for mood in generate("mood", 10, seed=1):
        assert 3 <= len(mood.feelings) == len(mood.shown) <= 7
        shown = tuple(sorted((name, mood.levels[name]) for name in mood.shown))
        assert mood.feelings[-1].target() == pytest.approx(emotion_posterior(shown))
        assert mood.text.endswith(f" {mood.feelings[-1].action}.")
