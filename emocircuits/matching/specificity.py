"""Specificity of a feature for an emotion: its share of all emotions' positive Δf.

1 is a feature of this emotion alone; a feature that is equally more active for m emotions has 1 / m.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.delta import delta
from emocircuits.matching.score import MatchInputs, MatchScore


def specificity(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """max(0, Δf of the emotion) / Σ over emotions of max(0, Δf); 0 for a feature that is the same in all of
    them.
    """
    more = np.maximum(delta(inputs), 0.0)
    total = more.sum(axis=0)
    return np.divide(more, total, out=np.zeros_like(more), where=total > 0)


CARD = MatchScore(
    "specificity",
    "the emotion's share of all emotions' positive differences of mean activation",
    specificity,
)
