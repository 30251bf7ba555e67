"""SAE architectures: adding one is one file and one line here."""

from emocircuits.sae.architectures import (  # noqa: F401 - each registers itself
    batchtopk,
    gated,
    jumprelu,
    matching_pursuit,
    matryoshka,
    standard,
    topk,
)
from emocircuits.sae.architectures.card import ARCHITECTURES

__all__ = ["ARCHITECTURES"]
