"""Halves, bootstrap and reliability."""

from dataclasses import replace

import numpy as np
import pytest
from directions.direction_world import (
    SETTINGS,
    gathered,
    plain_store,
    shuffled_stories,
    statistics,
)

from emocircuits.directions import (
    ESTIMATORS,
    DirectionSettings,
    EstimatorOptions,
    learn_directions,
)
from emocircuits.directions.resampling import QUALITIES, direction_quality, split_halves
from emocircuits.directions.statistics import replicate_weights


def test_qualities_equal_a_loop_over_draws(tmp_path):
    store, x, labels, fit, _ = shuffled_stories(tmp_path)
    design, found = gathered(store)
    estimator, options = ESTIMATORS.get("difference_of_means"), EstimatorOptions(neutral_variance=0.0)
    raw = estimator.fit(found.emotions, options)
    quality = direction_quality(estimator, options, found, design, raw)
    weights = replicate_weights(design, 0, len(x))[fit].astype(float)

    def cosine(a, b):
        return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)

    draws = [estimator.fit(statistics(x[fit], labels[fit], column), options) for column in weights.T]
    np.testing.assert_allclose(
        quality["cosine_low"], np.quantile([cosine(one, raw) for one in draws], 0.05, axis=0), atol=1e-4
    )
    along = [(one * raw).sum(-1) / np.linalg.norm(raw, axis=-1) for one in draws]
    np.testing.assert_allclose(quality["norm_high"], np.quantile(along, 0.975, axis=0), rtol=1e-4)
    halves = [
        [
            estimator.fit(statistics(x[fit & (row == half)], labels[fit & (row == half)]), options)
            for half in (0, 1)
        ]
        for row in design.halves
    ]
    r = np.mean([cosine(*pair) for pair in halves], axis=0)
    np.testing.assert_allclose(quality["reliability"], r, atol=1e-4)
    np.testing.assert_allclose(quality["reliability_full"], 2 * r / (1 + r), atol=1e-4)


def test_refitted_estimators_use_the_same_draws(tmp_path):
    """For an estimator that is linear in disguise, refitting with story weights gives what the gathered means
    give.
    """
    store, *_ = shuffled_stories(tmp_path)
    _, linear = gathered(store)
    design, found = gathered(store, "contrast_pca")
    options = EstimatorOptions(neutral_variance=0.0)
    plain = ESTIMATORS.get("difference_of_means")
    disguised = replace(plain, needs_stories=True)
    raw = plain.fit(found.emotions, options)
    one, two = (direction_quality(estimator, options, found, design, raw) for estimator in (plain, disguised))
    for name in QUALITIES:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5)
    assert len(design.halves) == design.n_bootstrap == SETTINGS.refits and linear.emotions.stories is None


def test_halves_are_balanced_within_emotions():
    labels = np.repeat(np.arange(6), [2, 3, 10, 11, 40, 7])
    halves = split_halves(labels, 4, 0)
    for row in halves:
        counts = np.array([np.bincount(row[labels == label], minlength=2) for label in range(6)])
        assert (np.abs(counts[:, 0] - counts[:, 1]) <= 1).all() and (counts > 0).all()
    assert len({row.tobytes() for row in halves}) == 4


def test_bootstrap_intervals_cover_and_reliability_tells_the_cosine_with_the_truth(tmp_path):
    """The root of the full reliability is the cosine that estimates have with the true direction,
    on average.
    """
    source = np.random.default_rng(0)
    truth = source.standard_normal((40, 20))
    truth -= truth.mean(axis=0)
    labels = np.repeat(np.arange(40), 24)
    x = truth[labels] + 4 * source.standard_normal((len(labels), 20))
    splits = np.tile(["train"] * 20 + ["held_out"] * 4, 40)
    found = learn_directions(
        plain_store(tmp_path / "a.h5", x, labels, splits=splits),
        DirectionSettings(from_token=1, neutral_variance=0.0, splits=20, content_controls=0),
    )
    assert [f"e{label}" for label in range(40)] == sorted(found.emotions, key=lambda name: int(name[1:]))
    place = [int(name[1:]) for name in found.emotions]
    unit = truth[place] / np.linalg.norm(truth[place], axis=1, keepdims=True)
    cosines = (found.vectors[0] * unit).sum(axis=1)
    expected = np.sqrt(found.quality["reliability_full"][0].mean())
    assert cosines.mean() == pytest.approx(expected, abs=0.03)
    low, high = found.quality["norm_low"][0], found.quality["norm_high"][0]
    assert ((low < found.norms[0]) & (found.norms[0] < high)).all()
    # 20 stories with spread 4 in every direction, less a mean over 40 emotions; a Bayesian bootstrap of n
    # divides by n + 1
    assert np.mean(high - low) / 3.92 == pytest.approx(4 * np.sqrt(19 / 20 / 21 * (1 - 1 / 40)), rel=0.08)
    assert (found.quality["cosine_low"][0] < 1).all() and found.quality["cosine_low"][0].min() > 0.5
