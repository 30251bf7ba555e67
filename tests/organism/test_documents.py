"""Splits by combination, and actions that follow their probability."""

import numpy as np
import pytest

from emocircuits.organism import corpus
from emocircuits.organism.documents import split_of_levels


@pytest.mark.parametrize("kind", ["inbox", "coding", "sycophancy"])
def test_level_vectors_are_in_one_split_only(kind):
    for split in ("train", "held_out"):
        assert all(split_of_levels(d.levels) == split for d in corpus.generate(kind, 100, 0, split))


def test_story_combinations_are_in_one_split_only():
    seen = {
        split: {(d.emotion, d.topic) for d in corpus.generate("story", 400, 0, split)}
        for split in ("train", "held_out")
    }
    assert not seen["train"] & seen["held_out"]


def test_drawn_actions_follow_the_true_probability():
    decisions = [d for document in corpus.generate("inbox", 1500, 8) for d in document.decisions]
    hits = np.mean([d.action == d.options[0] for d in decisions])
    chance = np.mean([d.p_true for d in decisions])
    assert abs(hits - chance) < 4 * np.sqrt(chance * (1 - chance) / len(decisions))
    assert abs(np.mean([d.p_bayes for d in decisions]) - chance) < 0.03
