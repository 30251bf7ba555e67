"""Directions: one file per estimator, controls as first-class directions, held-out validation.

Adding an estimator is one file and one line here.
"""

# ruff: noqa: I001

from emocircuits.directions import difference_of_means  # noqa: F401
from emocircuits.directions import mean_difference  # noqa: F401
from emocircuits.directions import linear_discriminant  # noqa: F401
from emocircuits.directions import logistic_probe  # noqa: F401
from emocircuits.directions import contrast_pca  # noqa: F401
from emocircuits.directions.estimator import ESTIMATORS, Estimator, EstimatorOptions
from emocircuits.directions.learn import DirectionSettings, learn_directions
from emocircuits.directions.summaries import StoreSummary, summarise

__all__ = [
    "ESTIMATORS",
    "DirectionSettings",
    "Estimator",
    "EstimatorOptions",
    "StoreSummary",
    "learn_directions",
    "summarise",
]
