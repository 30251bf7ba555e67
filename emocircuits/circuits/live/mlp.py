"""The MLP of one block in a pass of circuits: its one slot reads a stream of its own."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from emocircuits.circuits.live.part import Change, Changes, Reads, Values, by_circuit, weighted
from emocircuits.graphs.parts import MLP
from emocircuits.passes.record import Pass, mlp_input


class LiveMLP:
    """See `LivePart`."""

    def __init__(self, part: MLP):
        self._layer, self._out = part.layer, part.layer.hook("hook_mlp_out")
        self.taps = (self._out,)

    def values(self, run: Pass) -> Values:
        """See `LivePart`."""
        return (run.values[self._out],)

    def shift(self, live: Values, base: Values) -> Float[Tensor, "prompt pos d_model"]:
        """See `LivePart`."""
        return base[0] - live[0]

    def hooks(self, reads: Reads, base: Values, n_circuits: int, keep: Callable) -> Mapping[str, Change]:
        """See `LivePart`."""

        def enter(value: Tensor) -> Tensor:
            streams, _ = reads()
            return self._layer.mlp_norm(streams[:, 0].flatten(0, 1)).to(value.dtype)

        def leave(value: Tensor) -> Tensor:
            keep((by_circuit(value, n_circuits) - base[0],))
            return value

        return {mlp_input(self._layer.number): enter, self._out: leave}

    def mix(self, changes: Changes, base: Values, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `LivePart`."""
        return weighted(kept, changes[0][:, None])
