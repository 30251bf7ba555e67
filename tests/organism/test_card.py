"""The card is complete, and a directory without one is refused."""

import pytest

from emocircuits.errors import UserError
from emocircuits.organism.calibration import load_organism
from emocircuits.organism.card import WEIGHTS_DIR, load_card

shipped = pytest.mark.skipif(
    not (WEIGHTS_DIR / "model.safetensors").exists(), reason="no trained organism is shipped"
)


@shipped
def test_directory_is_small_and_the_card_is_complete():
    assert sum(path.stat().st_size for path in WEIGHTS_DIR.iterdir()) < 20_000_000
    card = load_card()
    assert card["parameters"] < 8_000_000 and card["words_not_single_tokens"] == []
    assert card["training"]["tokens"] > 0 and card["training"]["seconds"] > 0


def test_a_directory_without_a_card_is_refused(tmp_path):
    with pytest.raises(UserError, match="card.json"):
        load_card(tmp_path)
    with pytest.raises(UserError, match="no model"):
        load_organism(tmp_path)
