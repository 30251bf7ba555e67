"""Plain differences of two means: one emotion against all other stories, and one emotion against neutral
text.

Nothing is projected out. `one_vs_others` differs from `difference_of_means` where emotions have different
numbers of stories: here every story of the others weighs the same. `vs_neutral` holds, besides the emotion,
all that stories share and neutral text lacks.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.directions.difference_of_means import centred_means
from emocircuits.directions.estimator import Estimator, EstimatorOptions
from emocircuits.directions.statistics import ClassStatistics


def mean_against_others(
    statistics: ClassStatistics, options: EstimatorOptions
) -> Float[np.ndarray, "*draw label d_model"]:
    """Mean of the class's stories minus the mean of all other stories."""
    return centred_means(statistics, "others")


def vs_neutral(
    statistics: ClassStatistics, options: EstimatorOptions
) -> Float[np.ndarray, "*draw label d_model"]:
    """Mean of the class's stories minus the mean over tokens of neutral text."""
    return centred_means(statistics, "neutral")


CARDS = (
    Estimator(
        "one_vs_others",
        "mean of one emotion's stories minus the mean of all other stories",
        mean_against_others,
    ),
    Estimator("vs_neutral", "mean of one emotion's stories minus the mean of neutral text", vs_neutral),
)
