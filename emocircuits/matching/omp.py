"""Orthogonal matching pursuit: the direction as a signed sum of few decoder rows, chosen greedily (Pati et
al. 1993).

A comparison without labels. In each step the row that points most along what is left is added, and all
coefficients are fitted anew.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.decoder_cosine import unit
from emocircuits.matching.score import MatchInputs, MatchScore

CHOSEN = 16


def omp(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """Coefficient of every chosen feature, as the length it writes along its row (residual units); 0 for all
    others.
    """
    return sparse_code(inputs.directions, inputs.decoder)


CARD = MatchScore(
    "omp",
    "signed coefficient in a code of the direction by few decoder rows (orthogonal matching pursuit)",
    omp,
)


def sparse_code(
    directions: Float[np.ndarray, "emotion d_model"],
    decoder: Float[np.ndarray, "feature d_model"],
    n: int = CHOSEN,
) -> Float[np.ndarray, "emotion feature"]:
    """Codes of all directions at once, of `n` features each (fewer where rows run out), float64."""
    rows, wanted = unit(decoder), np.asarray(directions, dtype=np.float64)
    n = min(n, *rows.shape)
    code = np.zeros((len(wanted), len(rows)))
    places = np.zeros((len(wanted), 0), dtype=np.int64)
    everyone = np.arange(len(wanted))[:, None]
    left = wanted
    for _ in range(n):
        along = np.abs(left @ rows.T)
        np.put_along_axis(along, places, -1.0, axis=1)
        places = np.concatenate([places, along.argmax(axis=1)[:, None]], axis=1)
        basis = rows[places]
        gram = basis @ basis.transpose(0, 2, 1)
        # a tiny ridge: rows that repeat each other share their coefficient instead of making the system
        # singular
        gram += 1e-10 * np.eye(gram.shape[1])
        fitted = np.linalg.solve(gram, basis @ wanted[:, :, None])[:, :, 0]
        left = wanted - (fitted[:, None] @ basis)[:, 0]
    if n:
        code[everyone, places] = fitted
    return code
