"""The permutation null against an explicit loop, its false-positive rate, its q-values and its cost."""

import numpy as np
import pytest

from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.permutation import family_wise_p, null_maxima, permutations, q_values
from emocircuits.matching.standardised_delta import standardised
from emocircuits.numerics import benjamini_hochberg


def z_of(features, labels, n):
    contrast = StoryContrast(labels, n)
    return contrast.apply(standardised(features)) / contrast.standard_error()[:, None]


def test_maxima_and_p_equal_a_loop():
    rng = np.random.default_rng(0)
    features, labels = rng.exponential(size=(50, 12)).astype(np.float32), rng.permutation(np.arange(50) % 5)
    features[:, 2] += 3 * (labels == 1)
    eligible = np.ones(12, dtype=bool)
    eligible[[4, 7]] = False
    orders = permutations(50, 37, seed=3)
    assert (
        all(sorted(order) == list(range(50)) for order in orders)
        and (orders == permutations(50, 37, seed=3)).all()
    )
    maxima = null_maxima(features, StoryContrast(labels, 5), orders, eligible)
    for number, order in enumerate(orders):
        dealt = np.empty(50, dtype=int)
        dealt[order] = np.sort(labels)
        z = z_of(features.astype(np.float64), dealt, 5)
        np.testing.assert_allclose(maxima[number], z[:, eligible].max(axis=1), rtol=1e-4)
    z = z_of(features, labels, 5)
    p = family_wise_p(z, maxima)
    for emotion in range(5):
        for feature in range(12):
            reached = sum(maxima[number, emotion] >= z[emotion, feature] for number in range(37))
            assert p[emotion, feature] == pytest.approx((1 + reached) / 38)
    assert p[1, 2] < 0.06


def test_no_eligible_feature_gives_no_maximum():
    maxima = null_maxima(
        np.ones((6, 3), np.float32),
        StoryContrast(np.arange(6) % 2, 2),
        permutations(6, 4, 0),
        np.zeros(3, bool),
    )
    assert np.isneginf(maxima).all()


def test_q_of_the_best_feature_is_benjamini_hochberg_across_emotions():
    rng = np.random.default_rng(0)
    best = np.round(rng.random(15) ** 3, 2) + 0.005
    np.testing.assert_allclose(
        q_values(best, np.arange(15), best),
        np.minimum(1, benjamini_hochberg(np.minimum(best, 1))),
        rtol=1e-12,
    )


def test_q_of_another_feature_is_the_q_its_emotion_would_have():
    rng = np.random.default_rng(1)
    best = rng.random(9)
    for emotion in range(9):
        for value in (best[emotion], min(1.0, best[emotion] * 1.7), 1.0):
            replaced = best.copy()
            replaced[emotion] = value
            got = q_values(np.array([value]), np.array([emotion]), best)[0]
            assert got == pytest.approx(benjamini_hochberg(replaced)[emotion])


def test_false_positive_rate_under_permuted_labels():
    """Dependent features, unequal classes, heavy tails: any feature of an emotion passes 0.05 in about 5 % of
    worlds.
    """
    rng, hits, trials = np.random.default_rng(0), 0, 0
    base = rng.exponential(size=(60, 8)) ** 2
    features = np.concatenate(
        [base, base[:, :4] + 0.3 * rng.exponential(size=(60, 4)), (rng.random((60, 6)) < 0.15)], axis=1
    ).astype(np.float32)
    labels = np.array([0] * 10 + [1] * 20 + [2] * 30)
    for world in range(150):
        shuffled = rng.permutation(labels)
        maxima = null_maxima(
            features, StoryContrast(shuffled, 3), permutations(60, 99, seed=world), np.ones(18, bool)
        )
        best = family_wise_p(z_of(features, shuffled, 3), maxima).min(axis=1)
        hits, trials = hits + (best <= 0.05).sum(), trials + 3
    assert 0.015 <= hits / trials <= 0.085  # 450 dependent trials: 0.05 ± 0.03
