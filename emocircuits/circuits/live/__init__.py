"""Component and mixed circuits run for real: every slot reads the baseline plus the live changes that its
edges let through.
"""

from collections.abc import Mapping

from emocircuits.circuits.live.embedding import LiveEmbeddings
from emocircuits.circuits.live.features import LiveFeatures
from emocircuits.circuits.live.heads import LiveHeads
from emocircuits.circuits.live.mlp import LiveMLP
from emocircuits.circuits.live.part import LivePart, Values
from emocircuits.errors import Failure
from emocircuits.graphs.parts import MLP, Embeddings, Features, Heads, Writer
from emocircuits.passes.anatomy import Anatomy
from emocircuits.sae.dictionary import Dictionary

__all__ = ["LivePart", "Values", "live_part"]


def live_part(writer: Writer, anatomy: Anatomy, dictionaries: Mapping[str, Dictionary]) -> LivePart:
    """What a writer of a graph does in the passes of circuits."""
    if isinstance(writer, Heads):
        return LiveHeads(writer)
    if isinstance(writer, MLP):
        return LiveMLP(writer)
    if isinstance(writer, Embeddings):
        return LiveEmbeddings(anatomy)
    if isinstance(writer, Features):
        return LiveFeatures(writer, dictionaries[writer.taps[0]])
    raise Failure(f"no way to run {writer.nodes[0]} in a circuit")
