"""Attribution methods, one file each; `METHODS` is their registry.

Adding a method is one file that adds its card, and one line here.
"""

from emocircuits.attribution.methods import (  # noqa: F401 - each adds itself
    atp_star,
    attribution_patching,
    checked,
    exact,
    integrated_gradients,
    relp,
    steering,
    verified,
)
from emocircuits.attribution.methods.card import METHODS

__all__ = ["METHODS"]
