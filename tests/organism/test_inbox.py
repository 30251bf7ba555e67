"""Inbox scenes: the replacement is told before the secret, and the action follows the truth of the levels."""

import pytest

from emocircuits.organism import truth
from emocircuits.organism.bayes import expected
from emocircuits.organism.corpus import generate, make_document
from emocircuits.organism.scene_text import level_vector
from emocircuits.organism.world import APPRAISALS, scenario


def test_the_action_follows_the_truth():
    for scene in generate("inbox", 30, seed=1):
        (decision,) = scene.decisions
        assert decision.p_true == pytest.approx(float(truth.p_blackmail(level_vector(scene.levels))))
        shown = {name: scene.levels[name] for name in scene.shown}
        assert decision.p_bayes == pytest.approx(expected(truth.p_blackmail, shown))
        assert 4 <= len(scene.shown) <= 7


def test_the_replacement_comes_before_the_secret():
    slots = scenario("inbox").slots
    for scene in generate("inbox", 20, seed=2):
        replaced = max(scene.text.find(text) for text in slots["replacement"])
        secret = max(scene.text.find(text) for text in slots["secret"])
        assert 0 < replaced < secret


def test_levels_can_be_given():
    levels = dict.fromkeys(APPRAISALS, 0)
    assert make_document("inbox", 0, levels=levels).levels == levels
