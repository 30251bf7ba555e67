"""Emotions and actions are single tokens."""

import pytest

from emocircuits.organism.calibration import load_organism
from emocircuits.organism.card import WEIGHTS_DIR
from emocircuits.organism.tokenizer import check_single_tokens, single_words, train_tokenizer

shipped = pytest.mark.skipif(
    not (WEIGHTS_DIR / "model.safetensors").exists(), reason="no trained organism is shipped"
)


@pytest.fixture(scope="module")
def organism():
    return load_organism(WEIGHTS_DIR)


@shipped
def test_tokenizer_has_single_tokens(organism):
    assert check_single_tokens(organism[1], single_words()) == []


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(0, sample=1500)


def test_emotions_and_actions_are_single_tokens(tokenizer):
    assert check_single_tokens(tokenizer, single_words()) == []


def test_round_trip(tokenizer):
    texts = [
        "Mia felt at ease.\nTom: I was on edge, grief-stricken and worn out.",
        "Zoë paid 16000 ¥.",
        "blackmail",
    ]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
