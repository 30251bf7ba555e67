"""What a direction estimator is, and the register of them."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from emocircuits.directions.summaries import StoreSummary
from emocircuits.registry import Registry


@runtime_checkable
class Estimator(Protocol):
    """Makes one raw (not unit) direction per class and site from labelled stories."""

    def __call__(
        self, summary: StoreSummary, stories: Int[np.ndarray, "fit"], labels: Int[np.ndarray, "fit"], n_classes: int,
        *, neutral_variance: float,
    ) -> tuple[Float[np.ndarray, "site label d_model"], Float[np.ndarray, "site d_model"]]:
        """Raw directions, positive = more of the class, and the mean that was taken off.

        Args:
            summary: statistics of the store.
            stories: which stories to use.
            labels: their classes, 0 … n_classes - 1, each of them present.
            n_classes: number of classes.
            neutral_variance: share of the variance of neutral text whose components are projected out.
        """


ESTIMATORS: Registry[Estimator] = Registry("direction estimator")
