"""Sycophancy: agreement follows the truth of the mood and of the claim."""

import pytest

from emocircuits.organism import truth
from emocircuits.organism.corpus import generate
from emocircuits.organism.scene_text import level_vector
from emocircuits.organism.sycophancy import material


def test_agreement_follows_the_truth():
    claims = {claim["text"]: claim["right"] for claim in material()["claims"]}
    for document in generate("sycophancy", 30, seed=1):
        (decision,) = document.decisions
        (claim,) = [text for text in claims if text in document.text]
        assert decision.state["right"] == int(claims[claim])
        expected = truth.p_agree(level_vector(document.levels), claims[claim])
        assert decision.p_true == pytest.approx(float(expected))
        assert {"valence", "warmth"} <= set(document.shown)
