"""AUROC intervals, naming accuracy and the confound check against loops, simulation and other libraries."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from emocircuits.directions.validation import (
    auroc_intervals,
    naming_accuracy,
    one_vs_others_auroc,
    standardised_projections,
)


def world(seed=0, n=300, columns=4, ties=False):
    source = np.random.default_rng(seed)
    labels = source.integers(0, columns, n)
    scores = source.standard_normal((n, columns)) + 0.8 * (labels[:, None] == np.arange(columns))
    return (np.round(scores, 1) if ties else scores), labels


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_equal_delong_by_loops(ties):
    scores, labels = world(ties=ties)
    found = auroc_intervals(scores, labels)
    np.testing.assert_allclose(found.auroc, one_vs_others_auroc(scores, labels), atol=1e-12)
    for column in range(scores.shape[1]):
        own, other = scores[labels == column, column], scores[labels != column, column]
        wins = (own[:, None] > other) + 0.5 * (own[:, None] == other)
        variance = wins.mean(axis=1).var(ddof=1) / len(own) + wins.mean(axis=0).var(ddof=1) / len(other)
        theta = wins.mean()
        half = 1.959964 * np.sqrt(variance) / (theta * (1 - theta))
        assert np.log(found.high[column] / (1 - found.high[column])) - np.log(
            theta / (1 - theta)
        ) == pytest.approx(half, rel=1e-5)
        assert found.low[column] < theta < found.high[column]


def test_the_interval_of_the_mean_equals_a_bootstrap_over_stories():
    scores, labels = world(n=400, columns=6)
    found = auroc_intervals(scores, labels)
    source, means = np.random.default_rng(1), []
    for _ in range(800):
        drawn = np.concatenate(
            [source.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in range(6)]
        )
        means.append(one_vs_others_auroc(scores[drawn], labels[drawn]).mean())
    assert (found.mean_high - found.mean_low) / 2 == pytest.approx(1.959964 * np.std(means), rel=0.12)
    assert found.mean == pytest.approx(found.auroc.mean())


def test_intervals_cover_the_truth_as_often_as_stated():
    from scipy.stats import norm

    truth, hits, n = norm.cdf(0.8 / np.sqrt(2)), [], 120
    for seed in range(n):
        found = auroc_intervals(*world(seed, n=160))
        hits += list((found.low <= truth) & (truth <= found.high))
    assert 0.92 < np.mean(hits) < 0.98


def test_perfect_and_missing_columns():
    found = auroc_intervals(np.array([[3.0, 0], [2.0, 1], [1.0, 2], [0.0, 0]]), np.array([0, 0, -1, -1]))
    assert found.auroc[0] == 1 and found.high[0] == 1 and 0 < found.low[0] < 1
    assert np.isnan(found.auroc[1]) and np.isnan(found.low[1]) and found.mean == 1
    nothing = auroc_intervals(np.zeros((2, 1)), np.array([-1, -1]))
    assert np.isnan(nothing.mean)


def test_naming_accuracy_counts_ties_against():
    scores = np.array([[2.0, 1, 0], [2.0, 2, 0], [0.0, 1, 2]])
    labels = np.array([0, 0, 1])
    assert naming_accuracy(scores, labels)[0] == pytest.approx(1 / 3)
    rate, low, high = naming_accuracy(scores, labels, top=2)
    assert rate == 1 and 0.4 < low < 1 and high == 1


def test_projections_are_in_standard_deviations():
    x = np.random.default_rng(0).standard_normal((5000, 3)) * [1, 4, 9] + 2
    found = standardised_projections(x, np.eye(3), x.mean(axis=0), np.cov(x.T, bias=True))
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)


def test_auroc_equals_scikit_learn_with_ties():
    source = np.random.default_rng(1)
    labels = source.integers(0, 5, 200)
    scores = np.round(source.standard_normal((200, 5)) + (labels[:, None] == np.arange(5)), 1)  # many ties
    found = one_vs_others_auroc(scores, labels)
    np.testing.assert_allclose(
        found, [roc_auc_score(labels == column, scores[:, column]) for column in range(5)], atol=1e-12
    )


def test_auroc_edges():
    assert one_vs_others_auroc(np.array([[0.0], [1.0], [2.0]]), np.array([-1, -1, 0])).tolist() == [1.0]
    assert one_vs_others_auroc(np.array([[1.0], [1.0]]), np.array([0, -1])).tolist() == [0.5]
    assert np.isnan(one_vs_others_auroc(np.array([[1.0], [1.0]]), np.array([-1, -1]))).all()
