"""The shipped weights: small enough, offline-readable, and calibrated on combinations they have
never seen.
"""

import numpy as np
import pytest

from emocircuits.errors import UserError
from emocircuits.organism.calibration import _compare, cheat_by_failures, load_organism
from emocircuits.organism.card import BARS, WEIGHTS_DIR, load_card
from emocircuits.organism.corpus import generate
from emocircuits.organism.tokenizer import check_single_tokens, single_words

shipped = pytest.mark.skipif(
    not (WEIGHTS_DIR / "model.safetensors").exists(), reason="no trained organism is shipped"
)


@pytest.fixture(scope="module")
def organism():
    return load_organism(WEIGHTS_DIR)


@shipped
def test_directory_is_small_and_the_card_is_complete():
    assert sum(path.stat().st_size for path in WEIGHTS_DIR.iterdir()) < 20_000_000
    card = load_card()
    assert card["parameters"] < 8_000_000 and card["words_not_single_tokens"] == []
    assert card["training"]["tokens"] > 0 and card["training"]["seconds"] > 0


@shipped
def test_tokenizer_has_single_tokens(organism):
    assert check_single_tokens(organism[1], single_words()) == []


@shipped
@pytest.mark.parametrize("kind", ["inbox", "coding"])
def test_calibration_on_held_out_combinations(organism, kind):
    decisions = [d for document in generate(kind, 200, 31, "held_out") for d in document.decisions]
    found = _compare(*organism, decisions)
    assert found["r"] >= BARS["r"] and found["mae"] <= BARS["mae"]


@shipped
def test_cheating_rises_with_failures(organism):
    assert np.all(np.diff(cheat_by_failures(*organism, 8, 31)["model"]) > 0)


def test_a_directory_without_a_card_is_refused(tmp_path):
    with pytest.raises(UserError, match="card.json"):
        load_card(tmp_path)
    with pytest.raises(UserError, match="no model"):
        load_organism(tmp_path)
