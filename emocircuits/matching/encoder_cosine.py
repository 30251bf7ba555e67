"""Cosine of a feature's encoder column with the emotion direction: what the feature reads.

An encoder is a dual vector, turned away from features it must not react to, so it need not point where its
feature writes.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.decoder_cosine import cosines
from emocircuits.matching.score import MatchInputs, MatchScore


def encoder_cosine(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """Signed cosine; 0 for an encoder column of length 0."""
    return cosines(inputs.directions, inputs.encoder.T)


CARD = MatchScore(
    "encoder_cosine",
    "cosine of the encoder column with the direction: what the feature reads",
    encoder_cosine,
)
