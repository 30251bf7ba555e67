"""The embeddings: `embed`, what the tokens put into the stream, and `pos`, what their positions put into it.

Clean and corrupt prompts of one length share their positions, so `pos` has an effect only against another
baseline.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.part import POSITIONS, Edit, Pair
from emocircuits.graphs.parts.window import EVERYTHING, Window, within
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.record import Pass


class Embeddings:
    """Writer before the first block."""

    cuts = False
    writes_at = -1.0

    def __init__(self, anatomy: Anatomy):
        self._stream, self._positions = anatomy.embedding, anatomy.positions
        self.nodes = ("embed",) if self._positions is None else ("embed", "pos")
        self.taps = (self._stream,)
        self.constants = () if self._positions is None else (self._positions,)

    def effects(self, pair: Pair, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change, gradient at the stream before the first block >."""
        return torch.einsum("pntd,ptd->pn", self._change(pair), grads[self._stream])

    def write(self, pair: Pair, window: Window, out: Float[Tensor, "node prompt pos d_model"]) -> None:
        """See `Writer`."""
        out.copy_(self._change(pair, window).transpose(0, 1))

    def moved(
        self, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        return self._change(pair)[prompts, nodes]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`; exact because both embeddings are only added."""
        wanted = self._parts(source)[prompts, nodes]
        live = POSITIONS if POSITIONS in source.values else self._positions

        def edit(value: Tensor) -> Tensor:
            positions = torch.zeros_like(wanted) if self._positions is None else source.values[live][:1]
            other = value - positions  # the tokens' part; positions are the same on all prompts of a length
            return torch.where((nodes == 0)[:, None, None], wanted + positions, other + wanted)

        return self._stream, edit

    def _change(self, pair: Pair, window: Window = EVERYTHING) -> Float[Tensor, "prompt node pos d_model"]:
        return self._parts(pair.clean, window) - self._parts(pair.corrupt, window)

    def _parts(self, one: Pass, window: Window = EVERYTHING) -> Float[Tensor, "prompt node pos d_model"]:
        stream = within(one.values[self._stream], window)
        if self._positions is None:
            return stream[:, None]
        positions = within(one.values[self._positions], window).expand_as(stream)
        return torch.stack([stream - positions, positions], dim=1)
