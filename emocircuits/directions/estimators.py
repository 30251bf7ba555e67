"""The direction estimators. Adding one is one file and one line here."""

# ruff: noqa: I001 - the order is the order in tables

from emocircuits.directions import difference_of_means  # noqa: F401
from emocircuits.directions import mean_difference  # noqa: F401
from emocircuits.directions import linear_discriminant  # noqa: F401
from emocircuits.directions import logistic_probe  # noqa: F401
from emocircuits.directions import contrast_pca  # noqa: F401
from emocircuits.directions.estimator import ESTIMATORS

__all__ = ["ESTIMATORS"]
