"""Deception on the small pretrained models: words are tokens, lengths agree, the metric says something."""

import pytest
import torch

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.behaviours.targets import token_ids
from emocircuits.errors import UserError
from emocircuits.models.loader import load_model
from tests.conftest import real_model

pytestmark = pytest.mark.real_model


def load(name):
    return load_model(str(real_model(name)), trust_remote_code=True)


@pytest.mark.parametrize(
    ("name", "material"), [("tinystories-sp2M", "tinystories"), ("stories260K", "stories260k")]
)
def test_deception_is_neither_at_floor_nor_at_ceiling(name, material):
    model = load(name)
    bound = bind(BEHAVIOURS.get("deception"), model)
    assert bound.material.name == material
    rates = {"clean": [], "corrupt": []}
    for group in bound.prompts("find").groups + bound.prompts("score").groups:
        with torch.no_grad():
            rates["clean"].append(bound.metric.rate(model.bridge(group.clean)))
            rates["corrupt"].append(bound.metric.rate(model.bridge(group.corrupt)))
    clean, corrupt = (torch.cat(rates[side]) for side in ("clean", "corrupt"))
    assert 0.1 < clean.mean() < 0.9 and 0.1 < corrupt.mean() < 0.9
    assert clean.std() > 0.02 and (clean - corrupt).abs().max() > 0.05
    if material == "tinystories":
        assert clean.mean() - corrupt.mean() > 0.1


def test_a_word_of_several_tokens_is_named():
    with pytest.raises(UserError, match="'cheat' is not one token.*'che' | 'at'"):
        token_ids(load("tinystories-sp2M"), ("hide", "cheat"))
    with pytest.raises(UserError, match="fits no material|'hide' is not one token"):
        bind(BEHAVIOURS.get("deception"), load("stories260K"), ["tinystories"])
