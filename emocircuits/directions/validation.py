"""How well directions read emotions on held-out stories: one-against-all-others AUROC and naming the emotion,
with intervals.

Intervals of AUROCs come from the variance of Mann & Whitney's statistic (DeLong, DeLong & Clarke-Pearson
1988), on the logit scale so that they stay inside (0, 1). The mean over emotions has an interval of its own:
one story counts in all of its columns, so the columns are not independent.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata

from emocircuits.numerics import wilson_interval


@dataclass(frozen=True, eq=False)
class AurocIntervals:
    """AUROCs of all columns with 95 % intervals; NaN where a column has no story or all of them.

    Attributes:
        auroc, low, high: per column.
        mean, mean_low, mean_high: over the columns.
    """

    auroc: Float[np.ndarray, "emotion"]
    low: Float[np.ndarray, "emotion"]
    high: Float[np.ndarray, "emotion"]
    mean: float
    mean_low: float
    mean_high: float


def one_vs_others_auroc(
    scores: Float[np.ndarray, "story emotion"], labels: Int[np.ndarray, "story"]
) -> Float[np.ndarray, "emotion"]:
    """Area under the ROC curve of every column: stories of that emotion against all others.

    Exact, from ranks (Mann & Whitney 1947), ties count one half. NaN for an emotion with no story or with all
    of them.

    Args:
        scores: projection of each story on each direction.
        labels: the column each story belongs to (-1: to none).
    """
    ranks = rankdata(scores, axis=0)
    positive = labels[:, None] == np.arange(scores.shape[1])
    n_positive = positive.sum(axis=0).astype(np.float64)
    n_negative = len(labels) - n_positive
    wins = (ranks * positive).sum(axis=0) - n_positive * (n_positive + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (n_positive * n_negative)


def auroc_intervals(
    scores: Float[np.ndarray, "story emotion"], labels: Int[np.ndarray, "story"], *, level: float = 0.95
) -> AurocIntervals:
    """`one_vs_others_auroc` with intervals.

    Where a column is perfect or perfectly wrong its interval is Wilson's for as many trials as it has
    positive stories.

    Args:
        scores: projection of each story on each direction.
        labels: the column each story belongs to (-1: to none).
        level: coverage.
    """
    z = float(norm.ppf((1 + level) / 2))
    n_columns = scores.shape[1]
    auroc, low, high = np.full(n_columns, np.nan), np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    influence = np.zeros(len(labels))
    for column in range(n_columns):
        values, positive = scores[:, column], labels == column
        own, other = values[positive], values[~positive]
        if not len(own) or not len(other):
            continue
        wins_own, wins_other = _share_below(other, own), 1 - _share_below(own, other)
        theta = auroc[column] = float(wins_own.mean())
        influence[positive] += (wins_own - theta) / len(own)
        influence[~positive] += (wins_other - theta) / len(other)
        spread = _variance(wins_own) / len(own) + _variance(wins_other) / len(other)
        if 0 < theta < 1 and spread > 0:
            centre, half = np.log(theta / (1 - theta)), z * np.sqrt(spread) / (theta * (1 - theta))
            low[column], high[column] = 1 / (1 + np.exp(-(centre - half))), 1 / (1 + np.exp(-(centre + half)))
        else:
            low[column], high[column] = wilson_interval(theta * len(own), len(own), level=level)
    known = ~np.isnan(auroc)
    if not known.any():
        return AurocIntervals(auroc, low, high, float("nan"), float("nan"), float("nan"))
    variance = sum(
        len(part) * _variance(part) for part in (influence[labels == label] for label in np.unique(labels))
    )
    mean, half = float(auroc[known].mean()), z * float(np.sqrt(variance)) / int(known.sum())
    return AurocIntervals(auroc, low, high, mean, max(0.0, mean - half), min(1.0, mean + half))


def naming_accuracy(
    scores: Float[np.ndarray, "story emotion"],
    labels: Int[np.ndarray, "story"],
    *,
    top: int = 1,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Share of stories whose emotion is among the `top` highest scores, with its Wilson interval; ties count
    against it.
    """
    own = scores[np.arange(len(labels)), labels]
    right = int(((scores >= own[:, None]).sum(axis=1) <= top).sum())
    return right / len(labels), *wilson_interval(right, len(labels), level=level)


def standardised_projections(
    stories: Float[np.ndarray, "story d_model"],
    vectors: Float[np.ndarray, "emotion d_model"],
    mean: Float[np.ndarray, "d_model"],
    covariance: Float[np.ndarray, "d_model d_model"],
) -> Float[np.ndarray, "story emotion"]:
    """Projections in standard deviations from the mean projection of the stories a direction was learned
    from.

    Directions differ in how far stories scatter along them, so emotions are compared on this scale.
    """
    spread = np.sqrt(
        np.maximum(
            np.einsum("ed,df,ef->e", vectors, covariance, vectors, optimize=True), np.finfo(np.float64).tiny
        )
    )
    return (stories - mean) @ vectors.T / spread


def story_projections(
    story_means: Float[np.ndarray, "story site d_model"], vectors: Float[np.ndarray, "site direction d_model"]
) -> Float[np.ndarray, "site story direction"]:
    """Projection of every story mean on every direction, in residual units; positive = more of it."""
    return np.einsum("nsd,sed->sne", story_means, vectors, optimize=True)


def held_out_auroc(
    story_means: Float[np.ndarray, "story site d_model"],
    labels: Int[np.ndarray, "story"],
    vectors: Float[np.ndarray, "site emotion d_model"],
) -> Float[np.ndarray, "site emotion"]:
    """`one_vs_others_auroc` at every site."""
    projections = story_projections(story_means, vectors)
    return np.stack([one_vs_others_auroc(scores, labels) for scores in projections])


def _share_below(
    pool: Float[np.ndarray, "pool"], values: Float[np.ndarray, "value"]
) -> Float[np.ndarray, "value"]:
    """Share of the pool below each value, ties half."""
    pool = np.sort(pool)
    return (np.searchsorted(pool, values, "left") + np.searchsorted(pool, values, "right")) / (2 * len(pool))


def _variance(values: Float[np.ndarray, "value"]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
