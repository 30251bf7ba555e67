"""Cosine of a feature's decoder row with the emotion direction: what the feature writes, whenever it is
active.

Alone it misleads (generic features win for many emotions), so nothing is selected by it.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.score import MatchInputs, MatchScore


def decoder_cosine(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """Signed cosine; 0 for a decoder row of length 0."""
    return cosines(inputs.directions, inputs.decoder)


CARD = MatchScore(
    "cosine", "cosine of the decoder row with the direction: what the feature writes", decoder_cosine
)


def cosines(
    directions: Float[np.ndarray, "emotion d_model"], rows: Float[np.ndarray, "feature d_model"]
) -> Float[np.ndarray, "emotion feature"]:
    """Cosines of unit directions with rows of any length, float64; 0 for a row of length 0."""
    return np.asarray(directions, dtype=np.float64) @ unit(rows).T


def unit(rows: Float[np.ndarray, "feature d_model"]) -> Float[np.ndarray, "feature d_model"]:
    """Rows of length 1, float64; those of length 0 stay 0."""
    wide = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
