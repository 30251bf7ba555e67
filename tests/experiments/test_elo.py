"""Elo ratings against planted ones and a likelihood by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize

from emocircuits.errors import Failure, UserError
from emocircuits.experiments.elo import POINTS, fit_elo
from emocircuits.experiments.preference_material import (
    ordered_pairs,
)


def test_planted_ratings_are_found():
    truth = np.array([300.0, 100, 0, -50, -350])
    pairs = ordered_pairs(5)
    p_first = 1 / (1 + np.exp(-((truth[pairs[:, 0]] - truth[pairs[:, 1]]) / POINTS + 0.3)))
    found = fit_elo(pairs[:, 0], pairs[:, 1], p_first, 5)
    np.testing.assert_allclose(found.elo, truth, atol=1e-6)
    assert (
        found.first_advantage == pytest.approx(0.3 * POINTS, abs=1e-6) and found.standard_error.max() < 1e-5
    )


def test_ratings_equal_a_likelihood_by_hand():
    source = np.random.default_rng(0)
    pairs = np.concatenate([ordered_pairs(6)] * 3)
    outcome = (source.random(len(pairs)) < 0.5 + 0.1 * (pairs[:, 0] - pairs[:, 1]) / 6).astype(float)

    def loss(free):
        beta, advantage = np.append(free[:5], -free[:5].sum()), free[5]
        logits = beta[pairs[:, 0]] - beta[pairs[:, 1]] + advantage
        return (np.logaddexp(0, logits) - outcome * logits).sum()

    best = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
    found = fit_elo(pairs[:, 0], pairs[:, 1], outcome, 6)
    np.testing.assert_allclose(found.elo / POINTS, np.append(best.x[:5], -best.x[:5].sum()), atol=1e-4)
    assert (found.standard_error > 0).all()


@pytest.mark.parametrize(
    "first, second, p, n, error, word",
    [
        ([0, 1], [1, 1], [0.5, 0.5], 2, UserError, "an item with itself"),
        ([0, 1], [1, 0], [0.5, 1.5], 2, UserError, "outcomes outside"),
        ([0, 1], [1, 0], [0.5, 0.5], 3, UserError, "item 2 is in no pair"),
        ([0, 1], [1, 0], [0.5, 0.5], 2, UserError, "2 pairs to rate 2 items"),
        ([0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1], [1.0, 0, 1, 0, 1, 0], 3, Failure, "Bradley-Terry"),
    ],
)
def test_bad_pairs(first, second, p, n, error, word):
    with pytest.raises(error, match=word):
        fit_elo(np.array(first), np.array(second), np.array(p), n)
