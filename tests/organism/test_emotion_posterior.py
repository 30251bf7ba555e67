"""The posterior of emotions against a sum over all level vectors."""

from itertools import product

import numpy as np

from emocircuits.organism import truth
from emocircuits.organism.bayes import level_table
from emocircuits.organism.corpus import generate
from emocircuits.organism.emotion_posterior import emotion_log_posterior, shown_levels
from emocircuits.organism.world import APPRAISALS, LEVELS


def test_posterior_equals_a_sum_over_all_level_vectors():
    table = level_table()[:-1]
    for story in list(generate("story", 30, 2, named=False)):
        likelihood = np.zeros(len(table))
        for levels in product(LEVELS, repeat=len(APPRAISALS)):
            if any(levels[APPRAISALS.index(name)] != story.levels[name] for name in story.shown):
                continue
            weight = np.prod([table[:, place, level + 1] for place, level in enumerate(levels)], axis=0)
            if story.decisions:
                dishonest = float(truth.p_dishonest(np.array(levels, dtype=float)))
                decision = story.decisions[0]
                weight = weight * (dishonest if decision.action == decision.options[0] else 1 - dishonest)
            likelihood += weight
        np.testing.assert_allclose(
            np.exp(emotion_log_posterior([story])[0]), likelihood / likelihood.sum(), atol=1e-10
        )


def test_shown_levels_are_one_hot():
    made = list(generate("story", 20, 2, named=False))
    flags = shown_levels(made).reshape(20, len(APPRAISALS), 3)
    for story, flag in zip(made, flags, strict=True):
        assert {APPRAISALS[place] for place in np.flatnonzero(flag.sum(axis=1))} == set(story.shown)
        assert all(flag[APPRAISALS.index(name), story.levels[name] + 1] == 1 for name in story.shown)
