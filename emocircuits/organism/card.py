"""The model card: what the shipped organism is, and every number measured on it."""

import json
from pathlib import Path

from emocircuits.errors import UserError
from emocircuits.io.atomic import write_text
from emocircuits.organism.calibration import evaluate_calibration, load_organism
from emocircuits.organism.corpus import MIXTURE
from emocircuits.organism.documents import HELD_OUT_SHARE
from emocircuits.organism.tokenizer import check_single_tokens, single_words
from emocircuits.organism.world import lexicon, topics

WEIGHTS_DIR = Path(__file__).parent / "weights"
BARS = {"r": 0.97, "mae": 0.05}


def load_card(model_dir: str | Path = WEIGHTS_DIR) -> dict:
    """The card of a trained organism (the shipped one by default).

    Raises:
        UserError: the directory holds no card.
    """
    path = Path(model_dir) / "card.json"
    if not path.exists():
        raise UserError(f"no card.json in {model_dir}", expected="the directory of a trained organism")
    return json.loads(path.read_text(encoding="utf-8"))


def write_card(model_dir: str | Path, *, n: int = 400, extra: dict | None = None) -> dict:
    """Measures calibration and writes `card.json` next to the weights.

    Args:
        model_dir: directory made by `train_organism`.
        n: held-out documents per behaviour.
        extra: further measured numbers to state.
    """
    folder = Path(model_dir)
    model, tokenizer = load_organism(folder)
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    card = {
        "schema": "emocircuits.organism_card",
        "schema_version": 1,
        "parameters": sum(value.numel() for value in model.parameters()),
        "vocabulary": len(tokenizer),
        "words_not_single_tokens": check_single_tokens(tokenizer, single_words()),
        "emotions": len(lexicon().emotions),
        "topics": len(topics()),
        "mixture": MIXTURE,
        "held_out_share": HELD_OUT_SHARE,
        "training": training,
        "calibration": evaluate_calibration(folder, n),
        "bars": BARS,
        **(extra or {}),
    }
    write_text(folder / "card.json", json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card
