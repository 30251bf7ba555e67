"""Directions: one file per estimator, controls as first-class directions, held-out validation.

Adding an estimator is one file and one line here.
"""

from emocircuits.directions import difference_of_means  # noqa: F401
from emocircuits.directions.estimator import ESTIMATORS
from emocircuits.directions.learn import DirectionSettings, learn_directions
from emocircuits.directions.summaries import StoreSummary, summarise

__all__ = ["ESTIMATORS", "DirectionSettings", "StoreSummary", "learn_directions", "summarise"]
