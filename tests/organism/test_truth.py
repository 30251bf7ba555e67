"""Truth at points worked on paper, and the exact Bayes probability against a sum written out by hand."""

from itertools import product

import numpy as np

from emocircuits.organism import bayes, truth
from emocircuits.organism.world import APPRAISALS, LEVELS, level_probabilities, lexicon


def levels(**given):
    return np.array([given.get(name, 0) for name in APPRAISALS], dtype=float)


def test_neutral_baseline_is_22_percent():
    assert np.isclose(truth.p_blackmail(levels()), 0.22)


def test_desperation_raises_and_calm_lowers():
    desperate = truth.p_blackmail(levels(valence=-1, arousal=1, control=-1, stakes=1))
    calm = truth.p_blackmail(levels(arousal=-1, control=1, stakes=-1))
    assert np.isclose(desperate, truth.sigmoid(truth.BASE_LOGIT + 2 * 1.45 - 0.5))
    assert calm < 0.22 < desperate


def test_anger_is_not_monotonic_and_happy_and_sad_are_lower():
    mild = truth.p_blackmail(levels(agency=-1)) - truth.p_dishonest(levels(agency=-1))
    strong = truth.p_blackmail(levels(agency=-1, warmth=-1)) - truth.p_dishonest(levels(agency=-1, warmth=-1))
    assert mild > 0 > strong
    assert truth.p_blackmail(levels(valence=1)) < 0.22 and truth.p_blackmail(levels(valence=-1)) < 0.22


def test_cheating_rises_with_failures():
    chances = [truth.p_cheat(levels(), failures) for failures in range(6)]
    assert np.isclose(chances[2], truth.sigmoid(-1.9 + 1.1))
    assert np.all(np.diff(chances) > 0)


def test_functions_are_vectorised():
    grid = bayes.all_combinations()
    assert grid.shape == (2187, 7)
    one_by_one = [float(truth.p_blackmail(row)) for row in grid[::97]]
    assert np.allclose(truth.p_blackmail(grid)[::97], one_by_one)


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
