"""Logistic probes: one logistic regression per emotion, its stories against all others, all fitted at once.

    minimise over (w, b):  mean over stories of log(1 + exp(-s (w·x + b)))  +  λ/2 |w|²,   s = ±1

x are story means around their mean, in units where their mean variance is 1; w is handed back in residual
units. λ is `penalty` times p(1 - p), the curvature at w = 0 for the mean share p of an emotion, so `penalty`
means the same as in the linear discriminant: a share of the mean variance. The problems are independent, so
one quasi-Newton run (L-BFGS) solves all of them by matrix products, in coordinates in which every problem is
nearly round. With `scikit-learn` the same is `LogisticRegression(C=1 / (n λ))` per emotion (tested).
"""

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit

from emocircuits.directions.estimator import Estimator, EstimatorOptions
from emocircuits.directions.statistics import ClassStatistics
from emocircuits.errors import Failure

TOLERANCE = 1e-6


def logistic_probe(
    statistics: ClassStatistics, options: EstimatorOptions
) -> Float[np.ndarray, "label d_model"]:
    """Weights of every class's probe, in units of the log-odds per residual unit.

    Raises:
        Failure: the optimiser did not converge.
    """
    stories = statistics.stories
    if stories is None:
        raise Failure("logistic_probe was given no stories", expected="statistics that keep them")
    weights = stories.weights / stories.weights.sum()
    x = stories.means.astype(np.float64)
    x = x - weights @ x
    scale = float(np.sqrt((weights @ x**2).mean()))
    x /= scale
    n_labels = len(statistics.means)
    positive = stories.labels[:, None] == np.arange(n_labels)
    share = weights @ positive
    # at w = 0 the Hessian of class e is p(1-p) Σ + λ I: whiten by that of the mean p, start b at the class's
    # log-odds
    rate = float(share.mean() * (1 - share.mean()))
    penalty = options.penalty * rate
    values, basis = np.linalg.eigh(rate * (x * weights[:, None]).T @ x + penalty * np.eye(x.shape[1]))
    whiten = basis / np.sqrt(values)
    round_x = x @ whiten
    start = np.concatenate(
        [np.zeros((n_labels, x.shape[1])), np.log(share / (1 - share))[:, None] * np.sqrt(rate)], axis=1
    )
    gram = whiten.T @ whiten

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = flat.reshape(n_labels, -1)
        u, b = coefficients[:, :-1], coefficients[:, -1] / np.sqrt(rate)
        logits = round_x @ u.T + b
        value = weights @ (np.logaddexp(0, logits) - positive * logits).sum(axis=1)
        ridge = u @ gram
        error = weights[:, None] * (expit(logits) - positive)
        slope = np.concatenate(
            [error.T @ round_x + penalty * ridge, error.sum(axis=0)[:, None] / np.sqrt(rate)], axis=1
        )
        return float(value + penalty / 2 * (u * ridge).sum()), slope.reshape(-1)

    solution = minimize(
        loss,
        start.reshape(-1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxcor": 20, "ftol": 1e-14, "gtol": TOLERANCE},
    )
    if not solution.success and float(np.abs(solution.jac).max()) > 100 * TOLERANCE:
        raise Failure(
            f"logistic probes did not converge ({solution.message})", cure="raise directions.penalty"
        )
    return solution.x.reshape(n_labels, -1)[:, :-1] @ whiten.T / scale


CARDS = (
    Estimator(
        "logistic_probe",
        "one ridge-penalised logistic regression per emotion, its stories against all others",
        logistic_probe,
        needs_stories=True,
    ),
)
