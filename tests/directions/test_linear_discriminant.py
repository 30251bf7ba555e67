"""Linear discriminants against scikit-learn."""

import numpy as np
from directions.direction_world import labelled, statistics
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from emocircuits.directions import ESTIMATORS, EstimatorOptions


def fit(name, found, **options):
    return ESTIMATORS.get(name).fit(found, EstimatorOptions(**options))


def test_linear_discriminant_equals_scikit_learn():
    x, labels = labelled()
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(x, labels)
    found = fit("linear_discriminant", statistics(x, labels), penalty=0.0)
    np.testing.assert_allclose(found, oracle.coef_ - oracle.coef_.mean(axis=0), rtol=1e-6, atol=1e-8)
