"""The embeddings in a pass of circuits: they read nothing, so their changes are those of the prompts."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from emocircuits.circuits.live.part import Change, Changes, Reads, Values, by_circuit, weighted
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.record import Pass


class LiveEmbeddings:
    """See `LivePart`; nodes `embed` and, where the family has it, `pos`."""

    def __init__(self, anatomy: Anatomy):
        self._stream, self._positions = anatomy.embedding, anatomy.positions
        self.taps = (self._stream,) if self._positions is None else (self._stream, self._positions)

    def values(self, run: Pass) -> Values:
        """See `LivePart`."""
        return self._parts(
            run.values[self._stream], None if self._positions is None else run.values[self._positions]
        )

    def shift(self, live: Values, base: Values) -> Float[Tensor, "prompt pos d_model"]:
        """See `LivePart`."""
        return sum(new - old for new, old in zip(base, live, strict=True))

    def hooks(self, reads: Reads, base: Values, n_circuits: int, keep) -> Mapping[str, Change]:
        """See `LivePart`."""
        seen: list[Tensor] = []

        def positions(value: Tensor) -> Tensor:
            seen[:] = [value]
            return value

        def stream(value: Tensor) -> Tensor:
            live = self._parts(value, seen[0] if seen else None)
            keep(tuple(by_circuit(new, n_circuits) - old for new, old in zip(live, base, strict=True)))
            return value

        return (
            {self._stream: stream}
            if self._positions is None
            else {self._positions: positions, self._stream: stream}
        )

    def mix(self, changes: Changes, base: Values, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `LivePart`."""
        return sum(weighted(kept[:, :, [place]], change[:, None]) for place, change in enumerate(changes))

    def _parts(self, stream: Tensor, positions: Tensor | None) -> Values:
        if positions is None:
            return (stream,)
        positions = positions.expand_as(stream)
        return stream - positions, positions
