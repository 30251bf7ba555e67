"""Δf in standard errors: z = Δf / (s · standard error of the contrast), s the feature's spread over all
stories.

s takes no notice of labels, so permuting labels leaves it as it is and z of permuted labels is a matrix
product.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.score import MatchInputs, MatchScore


def standardised_delta(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """z of every feature; 0 for a feature that is the same in all stories."""
    return inputs.contrast.apply(standardised(inputs.features)) / inputs.contrast.standard_error()[:, None]


CARD = MatchScore(
    "standardised_delta", "difference of mean activation in standard errors", standardised_delta
)


def standardised(features: Float[np.ndarray, "story feature"]) -> Float[np.ndarray, "story feature"]:
    """Features with mean 0 and variance 1 over stories (constant features become 0), float32."""
    values = np.asarray(features, dtype=np.float64)
    centred = values - values.mean(axis=0)
    spread = np.sqrt(np.einsum("sf,sf->f", centred, centred) / len(centred))
    varies = spread > 1e-9 * np.maximum(np.abs(values).max(axis=0), 1e-30)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=varies).astype(np.float32)
