"""Logistic probes against scikit-learn."""

import numpy as np
import pytest
from directions.direction_world import labelled, statistics
from sklearn.linear_model import LogisticRegression

from emocircuits.directions import ESTIMATORS, EstimatorOptions


def fit(name, found, **options):
    return ESTIMATORS.get(name).fit(found, EstimatorOptions(**options))


@pytest.mark.parametrize("penalty", [0.3, 1.0])
def test_logistic_probes_equal_scikit_learn(penalty):
    x, labels = labelled(per_label=40)
    n_labels = int(labels.max()) + 1
    found = fit("logistic_probe", statistics(x, labels), penalty=penalty)
    centred = x - x.mean(axis=0)
    scale = np.sqrt((centred**2).mean())
    rate = 1 / n_labels * (1 - 1 / n_labels)
    for label in range(n_labels):
        oracle = LogisticRegression(C=1 / (len(x) * penalty * rate), tol=1e-10, max_iter=10_000).fit(
            centred / scale, labels == label
        )
        np.testing.assert_allclose(found[label], oracle.coef_[0] / scale, rtol=2e-3, atol=2e-4)


def test_logistic_probes_with_story_weights_equal_repeated_stories():
    x, labels = labelled()
    counts = np.random.default_rng(0).integers(1, 4, len(x))
    twice = fit("logistic_probe", statistics(np.repeat(x, counts, axis=0), np.repeat(labels, counts)))
    once = statistics(x, labels, counts.astype(float))
    np.testing.assert_allclose(fit("logistic_probe", once), twice, rtol=1e-3, atol=1e-4)
