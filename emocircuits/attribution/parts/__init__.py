"""Parts of a model as an attribution graph sees them: each writes nodes into the residual stream, reads slots
from it, or both.
"""

from emocircuits.attribution.parts.embedding import Embeddings
from emocircuits.attribution.parts.features import Features
from emocircuits.attribution.parts.heads import Heads
from emocircuits.attribution.parts.injection import Injection
from emocircuits.attribution.parts.logits import Logits
from emocircuits.attribution.parts.mlp import MLP
from emocircuits.attribution.parts.part import Edit, Pair, Reader, Writer

__all__ = [
    "MLP",
    "Edit",
    "Embeddings",
    "Features",
    "Heads",
    "Injection",
    "Logits",
    "Pair",
    "Reader",
    "Writer",
]
