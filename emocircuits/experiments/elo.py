"""Elo ratings from pairwise choices by the model of Bradley & Terry (1952), fitted with statsmodels.

    logit P(first is chosen) = (E_first - E_second) ln 10 / 400  +  a

a is the advantage of being named first. Outcomes may be probabilities instead of single choices; standard
errors are then those of a quasi-binomial fit. Ratings have mean 0; 400 points are odds of ten to one.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocircuits.errors import Failure, UserError

POINTS = 400 / np.log(10)
SEPARATED = 18.0
"""Log-odds between an item and the mean that no finite number of choices can show."""


@dataclass(frozen=True, eq=False)
class EloRatings:
    """Ratings of all items.

    Attributes:
        elo: rating of each item, mean 0.
        standard_error: of each rating.
        first_advantage: a, in Elo points.
    """

    elo: Float[np.ndarray, "item"]
    standard_error: Float[np.ndarray, "item"]
    first_advantage: float


def fit_elo(
    first: Int[np.ndarray, "pair"],
    second: Int[np.ndarray, "pair"],
    p_first: Float[np.ndarray, "pair"],
    n_items: int,
) -> EloRatings:
    """Fits ratings to choices between pairs.

    Args:
        first, second: the items of each pair, in the order they were offered.
        p_first: 1, 0 or the probability that the first is chosen.
        n_items: number of items; every one must be in some pair.

    Raises:
        UserError: an item that is in no pair, an item against itself, an outcome outside 0 … 1, or not more
            pairs than ratings.
        Failure: the choices separate the items completely, or the fit does not converge.
    """
    from statsmodels.api import GLM, families  # here, because it takes a second to import

    if (first == second).any() or not ((p_first >= 0) & (p_first <= 1)).all():
        raise UserError(
            "pairs of an item with itself, or outcomes outside 0 to 1", expected="two items and a probability"
        )
    missing = np.setdiff1d(np.arange(n_items), np.concatenate([first, second]))
    if len(missing):
        raise UserError(f"item {missing[0]} is in no pair", expected="every item in some pair")
    if len(first) <= n_items:
        raise UserError(
            f"{len(first)} pairs to rate {n_items} items",
            expected=f"more than {n_items}",
            cure="offer more pairs",
        )
    design = np.zeros((len(first), n_items))
    rows = np.arange(len(first))
    design[rows, first], design[rows, second] = 1.0, -1.0
    # effect coding: the last item is minus the sum of the others, so that ratings have mean 0
    contrasts = np.vstack([np.eye(n_items - 1), -np.ones(n_items - 1)])
    exog = np.column_stack([design @ contrasts, np.ones(len(first))])
    with warnings.catch_warnings():
        # a perfect fit is no fault here; complete separation is looked for below
        warnings.simplefilter("ignore")
        try:
            fit = GLM(p_first, exog, family=families.Binomial()).fit(scale="X2")
        except (np.linalg.LinAlgError, ValueError) as error:
            raise Failure(f"the Bradley-Terry fit failed ({error})", cure="offer more pairs") from error
    converged = fit.converged or np.allclose(fit.fittedvalues, p_first)
    if not converged or not np.isfinite(fit.params).all() or np.abs(fit.params).max() > SEPARATED:
        raise Failure(
            "the Bradley-Terry fit did not converge",
            expected="choices that do not separate the items completely",
        )
    covariance = contrasts @ fit.cov_params()[:-1, :-1] @ contrasts.T
    return EloRatings(
        POINTS * (contrasts @ fit.params[:-1]),
        POINTS * np.sqrt(np.maximum(np.diag(covariance), 0)),
        float(POINTS * fit.params[-1]),
    )
