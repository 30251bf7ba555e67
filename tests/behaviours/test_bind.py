"""A behaviour takes the first of its materials that fits the tokenizer, or says why none does."""

import pytest
from behaviours.words import OneToken

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.errors import UserError


def test_bind_takes_the_first_material_that_fits():
    bound = bind(BEHAVIOURS.get("deception"), OneToken("was", "had", "said"))
    assert (
        bound.material.name == "stories260k"
        and bound.metric.target_ids == (0, 1)
        and bound.metric.honest_ids == (2,)
    )
    assert len(bound.pairs("find", 5)) == 5 and bound.pairs("score", 999) == bound.score
    assert bound.metric.label == "was / had − said"


def test_bind_tells_why_nothing_fits():
    with pytest.raises(UserError, match="tinystories: the word 'hide'.*stories260k: the word 'was'"):
        bind(BEHAVIOURS.get("deception"), OneToken("nothing"))
    with pytest.raises(UserError, match="the word 'hide' is not one token"):
        bind(BEHAVIOURS.get("deception"), OneToken("was", "had", "said"), ["tinystories"])
