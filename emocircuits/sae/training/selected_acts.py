"""Feature activations kept as a list of the active ones, for the few things `SAETrainer` asks of the dense
tensor.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.sae.selection import Selection


class SelectedActs:
    """Stands in for the dense `feature_acts` of a training step.

    The trainer counts which features fired with `feature_acts.bool().float().sum(dim)`: that is answered from
    the list, the full matrix is only made by `to_dense`. Zeros among the values (a shut ReLU) do not count as
    fired.
    """

    is_sparse = False

    def __init__(self, selection: Selection):
        self.selection = selection

    @property
    def shape(self) -> torch.Size:
        """(tokens, features)."""
        return torch.Size(self.selection.shape)

    def to_dense(self) -> Float[Tensor, "batch d_sae"]:
        """The dense matrix."""
        chosen = self.selection
        return chosen.values.new_zeros(chosen.shape).index_put_((chosen.rows, chosen.features), chosen.values)

    def bool(self) -> "SelectedActs":
        """Which are not zero; values stay of the activations' dtype, 1 or 0."""
        chosen = self.selection
        ones = (chosen.values != 0).to(chosen.values.dtype)
        return SelectedActs(Selection(ones, chosen.features, chosen.rows, chosen.shape))

    def float(self) -> "SelectedActs":
        """Itself: the values are floating point already."""
        return self

    def sum(self, dim: int) -> Float[Tensor, "kept"]:
        """Sum over tokens (dim 0 or -2) or over features (dim 1 or -1)."""
        chosen = self.selection
        over_tokens = dim in (0, -2)
        index, size = (chosen.features, chosen.shape[1]) if over_tokens else (chosen.rows, chosen.shape[0])
        return chosen.values.new_zeros(size).index_add_(0, index, chosen.values)
