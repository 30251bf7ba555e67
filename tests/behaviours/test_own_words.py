"""A model's own words of a behaviour, on a model whose next words are known."""

from types import SimpleNamespace

import pytest
import torch

from emocircuits.behaviours.own_words import OwnWords, own_words
from emocircuits.errors import UserError

# after the decision for the act, after the honest one: probabilities of five words
ACT = torch.tensor([0.50, 0.10, 0.05, 0.30, 0.05])
HONEST = torch.tensor([0.05, 0.10, 0.42, 0.30, 0.13])


class Told:
    """A model that writes by the decision which its prompt ends in."""

    def __init__(self, act=ACT, honest=HONEST):
        self.rows = torch.stack([act, honest]).log()
        self.bridge = self._bridge
        self._bridge.__func__.cfg = SimpleNamespace(device="cpu")

    def _bridge(self, tokens, **kwargs):
        return self.rows[tokens[0, -1]][None, None]

    def encode(self, text):
        return [0, 0 if text.endswith("act") else 1]

    def token_texts(self, ids):
        return [f" w{number}" for number in ids]


PROMPTS = [("one act", "one honest"), ("two act", "two honest")]


def test_words_are_those_that_the_decision_moves():
    found = own_words(Told(), PROMPTS, PROMPTS)
    assert found.target_ids == (0,) and found.targets == ("w0",)
    assert found.honest_ids == (2, 4) and found.honest == ("w2", "w4")  # 8 and 2.6 times as likely
    assert found.separation == 1 and found.prompts == 2


def test_words_survive_json():
    found = own_words(Told(), PROMPTS, PROMPTS)
    import json
    from dataclasses import asdict

    assert OwnWords.of(json.loads(json.dumps(asdict(found)))) == found


def test_a_decision_that_moves_nothing_is_told():
    with pytest.raises(UserError, match="no word of this model becomes likelier"):
        own_words(Told(ACT, ACT), PROMPTS, PROMPTS)
    with pytest.raises(UserError, match="own words"):
        own_words(object(), PROMPTS, PROMPTS)
