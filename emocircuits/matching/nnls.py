"""Nonnegative least squares: the direction as a sum of decoder rows, min ‖v̂ - Σ w_i W_dec[i]‖² with w >= 0.

A comparison without labels: what a sparse code of the direction alone would say. With more features than
dimensions many codes fit equally well, so this is the one that projected gradient steps with momentum (Beck &
Teboulle 2009) reach from 0.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.score import MatchInputs, MatchScore

STEPS = 300


def nnls(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """w of every feature, in units of the unit direction per unit of feature_acts."""
    return nonnegative_code(inputs.directions, inputs.decoder)


CARD = MatchScore("nnls", "the feature's weight in a nonnegative code of the direction by decoder rows", nnls)


def nonnegative_code(
    directions: Float[np.ndarray, "emotion d_model"],
    decoder: Float[np.ndarray, "feature d_model"],
    steps: int = STEPS,
) -> Float[np.ndarray, "emotion feature"]:
    """Codes of all directions at once, float32; the same row lengths for all features would make w
    comparable, these are as given.
    """
    rows = np.asarray(decoder, dtype=np.float32)
    wanted = np.asarray(directions, dtype=np.float32)
    largest = float(np.linalg.norm(rows, 2)) ** 2 if rows.any() else 1.0
    code = np.zeros((len(wanted), len(rows)), dtype=np.float32)
    ahead, pace = code, 1.0
    for _ in range(steps):
        step = np.maximum(ahead - ((ahead @ rows - wanted) @ rows.T) / largest, 0.0)
        faster = (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead = step + np.float32((pace - 1) / faster) * (step - code)
        code, pace = step, faster
    return code
