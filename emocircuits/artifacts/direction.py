"""One direction at one site, and the push along it:

    push  =  strength * (mean residual norm at the site) * v / ||v||

`strength` is a fraction of the mean residual norm (Sofroniew et al. 2026), so it means the same in every
model. Positive strength pushes towards the direction.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from emocircuits.errors import UserError

if TYPE_CHECKING:
    import emocircuits.artifacts.push

LARGEST_STRENGTH = 2.0


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction with a name.

    Attributes:
        name: of the emotion or the control.
        kind: `emotion`, `random`, `content`, `shuffled` or another kind of control.
        site: a site of the residual stream.
        vector: where it points; its length does not matter.
        residual_norm: mean norm of the residual stream at the site: strength 1 adds a vector of this length.
    """

    name: str
    kind: str
    site: str
    vector: Float[np.ndarray, "d_model"]
    residual_norm: float

    def __post_init__(self) -> None:
        length = float(np.linalg.norm(self.vector))
        if not np.isfinite(length) or length == 0:
            raise UserError(
                f"the direction {self.name} at {self.site} has norm {length}", expected="finite and not zero"
            )
        if not (np.isfinite(self.residual_norm) and self.residual_norm > 0):
            raise UserError(
                f"a mean residual norm of {self.residual_norm} at {self.site}", expected="above 0"
            )

    def push(self, strength: float | int) -> "emocircuits.artifacts.push.Push":
        """The push of this strength, at most 2 either way; 0 adds nothing.

        Raises:
            UserError: a strength that is not finite, or so large that it must be a length in residual units.
        """
        # here, because figures and pages read directions without torch
        import torch

        from emocircuits.artifacts.push import Push

        self.check(strength)
        vector = strength * self.residual_norm * self.vector / np.linalg.norm(self.vector)
        return Push(self.name, self.site, torch.from_numpy(vector))

    def check(self, strength: float | int) -> None:
        """Makes sure that a strength is a fraction of the residual norm.

        Raises:
            UserError: it is not finite, or so large that it must be a length in residual units; the message
                converts it.
        """
        if not abs(strength) <= LARGEST_STRENGTH:
            raise UserError(
                f"strength {strength:g} at {self.site}",
                expected=f"a fraction of the mean residual norm, from {-LARGEST_STRENGTH:g} to "
                f"{LARGEST_STRENGTH:g}",
                cure=f"if it is a length in residual units, the strength is "
                f"{strength / self.residual_norm:.3g} (the mean norm there is {self.residual_norm:.4g})",
            )
