"""First principal component of an emotion's contrasts (after Zou et al. 2023, representation engineering,
arXiv 2310.01405).

A contrast is a story of the emotion minus the mean of all other stories. The component is that of the second
moment about 0 (the mean contrast is what is looked for), turned so that the mean contrast is positive; its
raw length is the root of the second moment along it.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.directions.difference_of_means import centred_means
from emocircuits.directions.estimator import Estimator, EstimatorOptions, without_neutral
from emocircuits.directions.statistics import ClassStatistics
from emocircuits.errors import Failure


def contrast_pca(
    statistics: ClassStatistics, options: EstimatorOptions
) -> Float[np.ndarray, "label d_model"]:
    """One component per class; leading neutral components are projected out of the contrasts."""
    stories = statistics.stories
    if stories is None:
        raise Failure("contrast_pca was given no stories", expected="statistics that keep them")
    mean_contrasts = centred_means(statistics, "others")
    raw = np.zeros_like(mean_contrasts)
    for label, mean_contrast in enumerate(mean_contrasts):
        own = np.flatnonzero(stories.labels == label)
        contrasts = stories.means[own] - (statistics.means[label] - mean_contrast)
        contrasts = without_neutral(contrasts, statistics.neutral_cov, options.neutral_variance)
        weights = stories.weights[own] / stories.weights[own].sum()
        _, lengths, rows = np.linalg.svd(np.sqrt(weights)[:, None] * contrasts, full_matrices=False)
        sign = 1.0 if weights @ (contrasts @ rows[0]) >= 0 else -1.0
        raw[label] = sign * lengths[0] * rows[0]
    return raw


CARDS = (
    Estimator(
        "contrast_pca",
        "first principal component of an emotion's stories minus the mean of the others",
        contrast_pca,
        needs_stories=True,
    ),
)
