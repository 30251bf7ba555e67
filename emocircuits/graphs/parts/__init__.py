"""Parts of a model as a component graph sees them: each writes nodes into the residual stream, reads slots
from it, or both.
"""

from emocircuits.graphs.parts.embedding import Embeddings
from emocircuits.graphs.parts.features import Features
from emocircuits.graphs.parts.heads import Heads
from emocircuits.graphs.parts.injection import Injection
from emocircuits.graphs.parts.logits import Logits
from emocircuits.graphs.parts.mlp import MLP
from emocircuits.graphs.parts.part import CircuitPart, Edit, Reader, Writer

__all__ = [
    "MLP",
    "CircuitPart",
    "Edit",
    "Embeddings",
    "Features",
    "Heads",
    "Injection",
    "Logits",
    "Reader",
    "Writer",
]
