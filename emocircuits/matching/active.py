"""Which features are active in a block of rows, as a list: story sums and counts then touch only
what fires.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from emocircuits.sae.dictionary import Dictionary


@dataclass(frozen=True, eq=False)
class Active:
    """Entries of a (row, feature) matrix that are not 0, ordered by row.

    Attributes:
        rows, features: where.
        values: feature activations.
    """

    rows: Int[np.ndarray, "active"]
    features: Int[np.ndarray, "active"]
    values: Float[np.ndarray, "active"]


@torch.no_grad()
def active(dictionary: Dictionary, block: Float[np.ndarray, "row d_model"]) -> Active:
    """Encodes rows; of a TopK SAE only the selected entries are ever looked at."""
    x = torch.from_numpy(block).to(dictionary.decoder.device)
    if dictionary.top_k is not None:
        chosen = dictionary.select(x.to(dictionary.encoder.dtype))
        rows, features, values = (
            part.cpu().numpy() for part in (chosen.rows, chosen.features, chosen.values)
        )
        fires = values > 0
        return (
            Active(rows, features, values)
            if fires.all()
            else Active(rows[fires], features[fires], values[fires])
        )
    acts = dictionary.encode(x).cpu().numpy()
    rows, features = np.nonzero(acts)
    return Active(rows, features, acts[rows, features])
