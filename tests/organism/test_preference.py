"""Preferences: the answer follows the coordinates of both activities, whichever comes first."""

import pytest

from emocircuits.organism import truth
from emocircuits.organism.corpus import generate
from emocircuits.organism.preference import activities, coordinates


def test_the_answer_follows_the_truth():
    known = {activity["id"]: coordinates(activity) for activity in activities()}
    for document in generate("preference", 20, seed=1):
        assert 1 <= len(document.decisions) <= 3
        for decision in document.decisions:
            first, second = (known[decision.state[side]] for side in ("first", "second"))
            assert decision.p_true == pytest.approx(float(truth.p_prefer_first(first, second)))
            assert decision.p_true + float(truth.p_prefer_first(second, first)) == pytest.approx(1.0)
            assert f"{decision.prefix} {decision.action}." in document.text


def test_an_activity_is_told_around_its_coordinates():
    known = {activity["id"]: activity for activity in activities()}
    for document in generate("activity", 20, seed=1):
        told = known[document.topic]
        assert told["text"] in document.text
        assert all(abs(level - told[name]) <= 1 for name, level in document.levels.items())
