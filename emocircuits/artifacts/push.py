"""What steering adds to the residual stream, as a value; `interventions.steer` carries it out."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Push:
    """A vector that is added at a site.

    Attributes:
        name: name of the direction.
        site: a site of the residual stream.
        vector: direction times strength times mean residual norm; one for every prompt, or one a prompt.
    """

    name: str
    site: str
    vector: Float[Tensor, "*prompt d_model"]

    def change(self, amount: float = 1.0) -> dict[str, Callable[[Tensor], Tensor]]:
        """The hook that adds so much of it at every position."""
        added = self.vector if self.vector.ndim == 1 else self.vector[:, None]
        return {self.site: lambda value: value + amount * added.to(value)}
