"""The direction estimators in the order of their tables. Adding one is one file and one line here."""

from emocircuits.directions import (
    contrast_pca,
    difference_of_means,
    linear_discriminant,
    logistic_probe,
    mean_difference,
)
from emocircuits.directions.estimator import ESTIMATORS

for _module in (
    difference_of_means,
    mean_difference,
    linear_discriminant,
    logistic_probe,
    contrast_pca,
):
    for _card in _module.CARDS:
        ESTIMATORS.add(_card)

__all__ = ["ESTIMATORS"]
