"""Truth at points worked on paper, and the exact Bayes probability against a sum written out by hand."""

import numpy as np

from emocircuits.organism import bayes, truth
from emocircuits.organism.world import APPRAISALS


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
