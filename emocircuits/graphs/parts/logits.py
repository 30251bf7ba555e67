"""The end of the graph: the slot `logits` reads the stream after the last block."""

from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.part import Edit
from emocircuits.graphs.parts.read_gradients import StreamGradients
from emocircuits.names import TARGET
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.record import CleanCorrupt, Pass


class Logits:
    """Reader after the last block; the final norm and the unembedding belong to it."""

    slots = (TARGET,)
    reads_at = float("inf")

    def __init__(self, anatomy: Anatomy):
        self._stream = anatomy.last
        self.read_taps = (self._stream,)

    def read_gradients(self, sides: CleanCorrupt, point: Pass, weight: float) -> StreamGradients:
        """See `Reader`."""
        return StreamGradients(weight * point.grads[self._stream][None])

    def hook_of(self, slot: int) -> str:
        """See `Reader`."""
        return self._stream

    def patch_slots(
        self,
        base: Pass,
        slots: Int[Tensor, "row"],
        prompts: Int[Tensor, "row"],
        change: Float[Tensor, "row pos d_model"],
    ) -> Edit:
        """See `Reader`."""
        return self._stream, lambda value: value + change
