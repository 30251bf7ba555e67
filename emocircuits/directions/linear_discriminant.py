"""Linear discriminant (Fisher 1936; Rao 1948): the difference of means seen through the spread of stories.

    w_e = (Σ + λ tr(Σ)/d I)^-1 (mean of e - centre),   Σ = covariance within emotions, pooled

The best linear reading of an emotion where stories scatter alike around every emotion's mean. It *reads*
better than the difference of means because it turns away from directions in which stories vary anyway; as a
direction to *push* along it is the worse choice, because it is the reading weight and not the change that the
emotion makes (Haufe et al. 2014).
"""

import numpy as np
from jaxtyping import Float

from emocircuits.directions.difference_of_means import centred_means
from emocircuits.directions.estimator import Estimator, EstimatorOptions
from emocircuits.directions.statistics import ClassStatistics


def linear_discriminant(
    statistics: ClassStatistics, options: EstimatorOptions
) -> Float[np.ndarray, "*draw label d_model"]:
    """Differences of means, whitened by the ridged covariance within classes."""
    raw = centred_means(statistics, options.centre)
    cov = statistics.within_cov
    ridged = cov + options.penalty * np.trace(cov) / len(cov) * np.eye(len(cov))
    return raw @ np.linalg.inv(ridged).astype(raw.dtype)


CARDS = (
    Estimator(
        "linear_discriminant",
        "difference of means whitened by the covariance of stories within emotions (best linear reading)",
        linear_discriminant,
    ),
)
