"""Numbers decide the level: by hand at the ends and in the middle, and in texts."""

import math

import pytest

from emocircuits.organism.corpus import generate
from emocircuits.organism.numeric import p_high
from emocircuits.organism.world import scenes


def test_the_chance_of_the_high_level_by_hand():
    values = [1.0, 10.0, 100.0]
    assert p_high(10.0, values) == pytest.approx(0.5)
    assert p_high(1.0, values) == pytest.approx(1 / (1 + math.exp(3)))
    assert p_high(100.0, values) == pytest.approx(1 / (1 + math.exp(-3)))


def test_texts_hold_a_number_of_their_template():
    templates = {template["id"]: template for template in scenes()["numeric"]}
    for document in generate("numeric", 20, seed=1):
        template = templates[document.topic]
        assert any(f"{value:g}" in document.text for value in template["values"])
        assert template["appraisal"] in document.shown and document.emotion
