"""Cosine of a feature's decoder row with the emotion direction: what the feature writes, whenever it is active.

Alone it misleads (generic features win for many emotions), so nothing is selected by it.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.score import SCORES, MatchInputs


@SCORES.member("cosine")
def decoder_cosine(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """Signed cosine; 0 for a decoder row of length 0."""
    decoder = np.asarray(inputs.decoder, dtype=np.float64)
    lengths = np.linalg.norm(decoder, axis=1, keepdims=True)
    rows = np.divide(decoder, lengths, out=np.zeros_like(decoder), where=lengths > 0)
    return np.asarray(inputs.directions, dtype=np.float64) @ rows.T
