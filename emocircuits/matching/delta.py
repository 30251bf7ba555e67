"""Δf: the exact signed decomposition of a difference of means into features.

For v = contrast of mean residuals and x = f @ W_dec + b_dec + ε, linearity gives

    v = Σ_i Δf_i · W_dec[i] + Δε

with Δf the same contrast of mean feature activations. No sparse coding is needed and coefficients may be
negative. Δε is what the SAE cannot express, reported as ‖Δε‖² / ‖v‖².
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.score import MatchInputs, MatchScore


def delta(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """Signed difference of mean activation, in units of feature_acts."""
    return inputs.contrast.apply(inputs.features)


CARD = MatchScore("delta", "difference of mean activation between the emotion and the others", delta)


def residual(
    contrast: StoryContrast,
    stream: Float[np.ndarray, "story d_model"],
    features: Float[np.ndarray, "story feature"],
    decoder: Float[np.ndarray, "feature d_model"],
) -> tuple[Float[np.ndarray, "emotion d_model"], Float[np.ndarray, "emotion d_model"]]:
    """The contrast v of the stream and the part Δε of it that no feature carries; float64."""
    v = contrast.apply(stream)
    return v, v - contrast.apply(features) @ np.asarray(decoder, dtype=np.float64)


def residual_share(
    contrast: StoryContrast,
    stream: Float[np.ndarray, "story d_model"],
    features: Float[np.ndarray, "story feature"],
    decoder: Float[np.ndarray, "feature d_model"],
) -> Float[np.ndarray, "emotion"]:
    """‖Δε‖² / ‖v‖² of each emotion; 0 where the emotions do not differ at all."""
    v, rest = residual(contrast, stream, features, decoder)
    length = (v * v).sum(1)
    return np.divide((rest * rest).sum(1), length, out=np.zeros_like(length), where=length > 0)
