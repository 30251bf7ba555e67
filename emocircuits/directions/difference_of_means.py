"""Difference of means, the recipe of Sofroniew et al. (2026, arXiv 2604.07729).

    v_e = (I - U U^T) (mean over stories of e  -  mean over emotions)

Each story counts once: it is the mean of its residual stream from the n-th token on. The mean over emotions is the plain
mean of the class means, so that common emotions do not weigh more. U are the leading principal components of neutral text,
as many as are needed to explain the given share of its variance (the paper: 50 %).
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from emocircuits.directions.estimator import ESTIMATORS
from emocircuits.directions.summaries import StoreSummary


@ESTIMATORS.member("difference_of_means")
def difference_of_means(
    summary: StoreSummary,
    stories: Int[np.ndarray, "fit"],
    labels: Int[np.ndarray, "fit"],
    n_classes: int,
    *,
    neutral_variance: float = 0.5,
) -> tuple[Float[np.ndarray, "site label d_model"], Float[np.ndarray, "site d_model"]]:
    """Raw directions per site and class; see `estimator.Estimator`."""
    means = class_means(summary.story_means[stories], labels, n_classes)
    centre = means.mean(axis=0)
    raw = (means - centre).transpose(1, 0, 2)
    for site in range(len(summary.sites)):
        basis = leading_components(summary.neutral_cov[site], neutral_variance)
        raw[site] -= (raw[site] @ basis) @ basis.T
    return raw, centre


def class_means(
    values: Float[np.ndarray, "fit site d_model"], labels: Int[np.ndarray, "fit"], n_classes: int
) -> Float[np.ndarray, "label site d_model"]:
    """Mean over the stories of each class, float64."""
    counts = np.bincount(labels, minlength=n_classes)
    weights = (1.0 / counts)[labels]
    gather = sparse.csr_matrix((weights, (labels, np.arange(len(labels)))), shape=(n_classes, len(labels)))
    return (gather @ values.reshape(len(values), -1).astype(np.float64)).reshape(n_classes, *values.shape[1:])


def leading_components(covariance: Float[np.ndarray, "d_model d_model"], share: float) -> Float[np.ndarray, "d_model component"]:
    """Fewest leading eigenvectors that explain at least `share` of the variance (none for a share of 0)."""
    if share <= 0 or not covariance.any():
        return np.zeros((len(covariance), 0))
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    needed = int(np.searchsorted(np.cumsum(values) / values.sum(), share - 1e-12)) + 1
    return vectors[:, :needed]
