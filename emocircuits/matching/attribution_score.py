"""Attribution: Δf_i · ⟨W_dec[i], v̂⟩, the part of the projection difference along the direction v̂ that
feature i writes.

It asks both what the feature reads (Δf) and what it writes. Over all features, with the residual, it sums to
⟨v, v̂⟩.
"""

import numpy as np
from jaxtyping import Float

from emocircuits.matching.delta import delta
from emocircuits.matching.score import MatchInputs, MatchScore


def attribution(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """In residual units along the unit direction."""
    return delta(inputs) * (
        np.asarray(inputs.directions, dtype=np.float64) @ np.asarray(inputs.decoder, dtype=np.float64).T
    )


CARD = MatchScore(
    "attribution",
    "the part of the difference of projections along the direction that the feature writes",
    attribution,
)
