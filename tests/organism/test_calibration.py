"""The shipped organism is calibrated on combinations it has never seen."""

import numpy as np
import pytest

from emocircuits.organism.calibration import _compare, cheat_by_failures, load_organism
from emocircuits.organism.card import BARS, WEIGHTS_DIR
from emocircuits.organism.corpus import generate

shipped = pytest.mark.skipif(
    not (WEIGHTS_DIR / "model.safetensors").exists(), reason="no trained organism is shipped"
)


@pytest.fixture(scope="module")
def organism():
    return load_organism(WEIGHTS_DIR)


@shipped
@pytest.mark.parametrize("kind", ["inbox", "coding"])
def test_calibration_on_held_out_combinations(organism, kind):
    decisions = [d for document in generate(kind, 200, 31, "held_out") for d in document.decisions]
    found = _compare(*organism, decisions)
    assert found["r"] >= BARS["r"] and found["mae"] <= BARS["mae"]


@shipped
def test_cheating_rises_with_failures(organism):
    assert np.all(np.diff(cheat_by_failures(*organism, 8, 31)["model"]) > 0)
