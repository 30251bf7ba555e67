"""Contrast components against a loop."""

import numpy as np
from directions.direction_world import labelled, statistics

from emocircuits.directions import ESTIMATORS, EstimatorOptions


def fit(name, found, **options):
    return ESTIMATORS.get(name).fit(found, EstimatorOptions(**options))


def test_contrast_pca_equals_a_loop():
    x, labels = labelled()
    found = fit("contrast_pca", statistics(x, labels))
    for label in range(labels.max() + 1):
        contrasts = x[labels == label] - x[labels != label].mean(axis=0)
        values, vectors = np.linalg.eigh(contrasts.T @ contrasts / len(contrasts))
        first = vectors[:, -1] * np.sign(contrasts.mean(axis=0) @ vectors[:, -1])
        np.testing.assert_allclose(found[label], np.sqrt(values[-1]) * first, atol=1e-9)
