"""The embeddings: `embed`, what the tokens put into the stream, and `pos`, what their positions put into it.

Clean and corrupt prompts of one length share their positions, so `pos` has an effect only against another
baseline.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.part import POSITIONS, Edit, Held, Reads, by_circuit, weighted
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.record import Change, CleanCorrupt, Pass
from emocircuits.passes.window import EVERYTHING, Window, within


class Embeddings:
    """Writer before the first block."""

    cuts = False
    writes_at = -1.0

    def __init__(self, anatomy: Anatomy):
        self._stream, self._positions = anatomy.embedding, anatomy.positions
        self.nodes = ("embed",) if self._positions is None else ("embed", "pos")
        self.taps = (self._stream,)
        self.constants = () if self._positions is None else (self._positions,)

    def effects(self, sides: CleanCorrupt, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change, gradient at the stream before the first block >."""
        return torch.einsum("pntd,ptd->pn", self._change(sides), grads[self._stream])

    def write(
        self, sides: CleanCorrupt, window: Window, out: Float[Tensor, "node prompt pos d_model"]
    ) -> None:
        """See `Writer`."""
        out.copy_(self._change(sides, window).transpose(0, 1))

    def moved(
        self, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        return self._change(sides)[prompts, nodes]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`; exact because both embeddings are only added."""
        wanted = self._parts(source)[prompts, nodes]
        live = POSITIONS if POSITIONS in source.values else self._positions

        def edit(value: Tensor) -> Tensor:
            positions = torch.zeros_like(wanted) if self._positions is None else source.values[live][:1]
            other = value - positions  # the tokens' part; positions are the same on all prompts of a length
            return torch.where((nodes == 0)[:, None, None], wanted + positions, other + wanted)

        return self._stream, edit

    def _change(
        self, sides: CleanCorrupt, window: Window = EVERYTHING
    ) -> Float[Tensor, "prompt node pos d_model"]:
        return self._parts(sides.clean, window) - self._parts(sides.corrupt, window)

    def _parts(self, one: Pass, window: Window = EVERYTHING) -> Float[Tensor, "prompt node pos d_model"]:
        stream = within(one.values[self._stream], window)
        if self._positions is None:
            return stream[:, None]
        positions = within(one.values[self._positions], window).expand_as(stream)
        return torch.stack([stream - positions, positions], dim=1)

    def held(self, run: Pass) -> Held:
        """See `CircuitPart`."""
        return self._split(
            run.values[self._stream], None if self._positions is None else run.values[self._positions]
        )

    def shift(self, held: Held, base: Held) -> Float[Tensor, "prompt pos d_model"]:
        """See `CircuitPart`."""
        return sum(new - old for new, old in zip(base, held, strict=True))

    def circuit_hooks(
        self, reads: Reads, base: Held, n_circuits: int, keep: Callable[[Held], None]
    ) -> Mapping[str, Change]:
        """See `CircuitPart`; they read nothing, so their changes are those of the prompts."""
        seen: list[Tensor] = []

        def positions(value: Tensor) -> Tensor:
            seen[:] = [value]
            return value

        def stream(value: Tensor) -> Tensor:
            held = self._split(value, seen[0] if seen else None)
            keep(tuple(by_circuit(new, n_circuits) - old for new, old in zip(held, base, strict=True)))
            return value

        if self._positions is None:
            return {self._stream: stream}
        return {self._positions: positions, self._stream: stream}

    def mix(self, changes: Held, base: Held, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `CircuitPart`."""
        return sum(weighted(kept[:, :, [place]], change[:, None]) for place, change in enumerate(changes))

    @staticmethod
    def _split(stream: Tensor, positions: Tensor | None) -> Held:
        if positions is None:
            return (stream,)
        positions = positions.expand_as(stream)
        return stream - positions, positions
