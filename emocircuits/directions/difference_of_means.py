"""Difference of means, the recipe of Sofroniew et al. (2026, arXiv 2604.07729).

    v_e = (I - U U^T) (mean over stories of e  -  centre)

Each story counts once: it is the mean of its residual stream from the n-th token on. The centre is the plain
mean of the class means, so that common emotions do not weigh more, unless `EstimatorOptions.centre` says
otherwise. U are the leading principal components of neutral text, as many as are needed to explain the given
share of its variance (the paper: 50 %).
"""

import numpy as np
from jaxtyping import Float

from emocircuits.directions.estimator import Estimator, EstimatorOptions, without_neutral
from emocircuits.directions.statistics import ClassStatistics
from emocircuits.errors import UserError


def difference_of_means(
    statistics: ClassStatistics, options: EstimatorOptions
) -> Float[np.ndarray, "*draw label d_model"]:
    """Class means minus the centre, without the main components of neutral text."""
    return without_neutral(
        centred_means(statistics, options.centre), statistics.neutral_cov, options.neutral_variance
    )


def centred_means(statistics: ClassStatistics, centre: str) -> Float[np.ndarray, "*draw label d_model"]:
    """Class means minus a centre (see `EstimatorOptions.centre`).

    Raises:
        UserError: the centre `topics` for stories without topics.
    """
    means, weights = statistics.means, statistics.weights[..., None].astype(statistics.means.dtype)
    if centre == "emotions":
        return means - means.mean(axis=-2, keepdims=True)
    if centre == "neutral":
        return means - statistics.neutral_mean.astype(means.dtype)
    if centre == "topics":
        if statistics.topic_share is None or statistics.topic_means is None:
            raise UserError(
                "the centre 'topics' needs stories with topics",
                cure="label the stories' topics, or choose another centre",
            )
        return means - (statistics.topic_share @ statistics.topic_means).astype(means.dtype)
    total = (weights * means).sum(axis=-2, keepdims=True)
    if centre == "stories":
        return means - total / weights.sum(axis=-2, keepdims=True)
    return means - (total - weights * means) / (weights.sum(axis=-2, keepdims=True) - weights)


CARDS = (
    Estimator(
        "difference_of_means",
        "class mean minus the mean over emotions, main components of neutral text "
        "projected out (the paper's recipe)",
        difference_of_means,
    ),
)
