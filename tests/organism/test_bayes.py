"""The posterior against sums written out."""

from itertools import product

import numpy as np

from emocircuits.organism import bayes, truth
from emocircuits.organism.world import APPRAISALS, LEVELS, level_probabilities, lexicon


def levels(**given):
    return np.array([given.get(name, 0) for name in APPRAISALS], dtype=float)


def test_bayes_equals_the_sum_written_out():
    shown = {"valence": -1, "arousal": 1, "control": -1, "agency": 0, "certainty": 1}
    table = level_probabilities(lexicon().coordinates)
    prior = (1 - bayes.NEUTRAL_SHARE) / 171
    total = evidence = 0.0
    for row in range(171):
        weight = prior
        for name, level in shown.items():
            weight *= table[row, APPRAISALS.index(name), level + 1]
        evidence += weight
        for stakes, warmth in product(LEVELS, LEVELS):
            vector = levels(**shown, stakes=stakes, warmth=warmth)
            total += (
                weight * table[row, 3, stakes + 1] * table[row, 5, warmth + 1] * truth.p_blackmail(vector)
            )
    assert np.isclose(bayes.expected(truth.p_blackmail, shown), total / evidence, atol=1e-12)


def test_all_levels_shown_leaves_nothing_open():
    shown = dict(zip(APPRAISALS, (-1, 1, 0, 1, 0, -1, 1)))
    assert np.isclose(bayes.expected(truth.p_blackmail, shown), truth.p_blackmail(levels(**shown)))


def test_a_named_emotion_fixes_the_prior():
    means = bayes.posterior({}, "desperate") @ bayes.all_combinations()
    expected = level_probabilities(lexicon().coordinates[lexicon().index("desperate")]) @ np.array(LEVELS)
    assert np.allclose(means, expected)
