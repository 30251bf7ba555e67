"""What a direction estimator is, and the register of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emocircuits.directions.settings import CENTRES
from emocircuits.directions.statistics import ClassStatistics
from emocircuits.errors import unknown
from emocircuits.registry import Registry


@dataclass(frozen=True)
class EstimatorOptions:
    """What estimators can be told; each takes what concerns it.

    Attributes:
        neutral_variance: share of the variance of neutral text whose leading components are projected out
            (the paper: 0.5).
        centre: what is taken off a class mean: the plain mean over `emotions` (the paper), the mean over all
            `stories`, the mean of all `others`' stories, the mean of `neutral` text, or what the class's
            `topics` explain.
        penalty: ridge of the linear discriminant and of the logistic probes, as a share of the stories' mean
            variance.
    """

    neutral_variance: float = 0.5
    centre: str = "emotions"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.centre not in CENTRES:
            raise unknown("centre", self.centre, CENTRES)


Fit = Callable[[ClassStatistics, EstimatorOptions], np.ndarray]


@dataclass(frozen=True)
class Estimator:
    """Makes one raw (not unit) direction per class from the statistics of one site.

    Attributes:
        name: its name.
        summary: in one sentence.
        fit: (statistics, options) -> raw directions `(*draw, label, d_model)`, positive = more of the class.
        needs_stories: whether it must see the single stories (then it takes no draw axes and is fitted once
            per draw).
    """

    name: str
    summary: str
    fit: Fit
    needs_stories: bool = False


ESTIMATORS: Registry[Estimator] = Registry("direction estimator")


def leading_components(
    covariance: Float[np.ndarray, "d_model d_model"], share: float
) -> Float[np.ndarray, "d_model component"]:
    """Fewest leading eigenvectors that explain at least `share` of the variance (none for a share of 0)."""
    if share <= 0 or not covariance.any():
        return np.zeros((len(covariance), 0))
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    needed = int(np.searchsorted(np.cumsum(values) / values.sum(), share - 1e-12)) + 1
    return vectors[:, :needed]


def without_neutral(
    raw: Float[np.ndarray, "*rest d_model"], neutral_cov: Float[np.ndarray, "d_model d_model"], share: float
) -> Float[np.ndarray, "*rest d_model"]:
    """Vectors with the leading components of neutral text projected out."""
    basis = leading_components(neutral_cov, share).astype(raw.dtype)
    return raw - (raw @ basis) @ basis.T if basis.shape[1] else raw
