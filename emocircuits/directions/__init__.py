"""Directions: one file per estimator, controls as first-class directions, held-out validation.

Adding an estimator is one file and one line in `emocircuits.directions.estimators`.
"""

from emocircuits.lazy import lazy

_NAMES = {
    "ESTIMATORS": "estimators",
    "DirectionSettings": "settings",
    "Estimator": "estimator",
    "EstimatorOptions": "estimator",
    "StoreSummary": "summaries",
    "learn_directions": "learn",
    "summarise": "summaries",
}
__all__ = list(_NAMES)
__getattr__ = lazy(__name__, _NAMES)
