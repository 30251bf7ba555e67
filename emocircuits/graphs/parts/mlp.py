"""The MLP of one block: one node and one slot, both `m2`."""

from collections.abc import Callable, Mapping

from jaxtyping import Float, Int
from torch import Tensor, nn

from emocircuits.graphs.parts.part import Edit, Held, Reads, by_circuit, through_norm, weighted
from emocircuits.graphs.parts.read_gradients import StreamGradients
from emocircuits.passes.anatomy import Layer
from emocircuits.passes.record import Change, CleanCorrupt, Pass, mlp_input, mlp_stream
from emocircuits.passes.window import Window


class MLP:
    """Writer and reader."""

    cuts, constants = False, ()

    def __init__(self, layer: Layer):
        self.layer, where = layer, layer.number
        self.nodes = self.slots = (f"m{where}",)
        self._out = layer.hook("hook_mlp_out")
        self.taps = (self._out,)
        # after a norm of its own autograd has the gradient at the stream already
        self._own_norm = isinstance(layer.mlp_norm, nn.Module) and layer.mlp_norm is not layer.attn_norm
        self._entry = mlp_stream(where) if self._own_norm else mlp_input(where)
        self.read_taps = (layer.mlp_reads, self._entry)
        self.reads_at, self.writes_at = 4.0 * where + (0 if layer.parallel else 2), 4.0 * where + 3

    def effects(self, sides: CleanCorrupt, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of the output, gradient there >."""
        return (sides.change(self._out) * grads[self._out]).sum((1, 2))[:, None]

    def write(
        self, sides: CleanCorrupt, window: Window, out: Float[Tensor, "node prompt pos d_model"]
    ) -> None:
        """See `Writer`."""
        out[0] = sides.change(self._out, window)

    def moved(
        self, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        return sides.change(self._out)[prompts]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`."""
        return self._out, lambda value: source.values[self._out][prompts]

    def read_gradients(self, sides: CleanCorrupt, point: Pass, weight: float) -> StreamGradients:
        """See `Reader`."""
        grads = weight * point.grads[self._entry][None]
        return StreamGradients(
            grads
            if self._own_norm
            else through_norm(self.layer.mlp_norm, point.values[self.layer.mlp_reads], grads)
        )

    def hook_of(self, slot: int) -> str:
        """See `Reader`."""
        return self._out

    def patch_slots(
        self,
        base: Pass,
        slots: Int[Tensor, "row"],
        prompts: Int[Tensor, "row"],
        change: Float[Tensor, "row pos d_model"],
    ) -> Edit:
        """See `Reader`."""
        wanted = self.layer.mlp(base.values[self.layer.mlp_reads][prompts] + change)
        return self._out, lambda value: wanted

    def held(self, run: Pass) -> Held:
        """See `CircuitPart`."""
        return (run.values[self._out],)

    def shift(self, held: Held, base: Held) -> Float[Tensor, "prompt pos d_model"]:
        """See `CircuitPart`."""
        return base[0] - held[0]

    def circuit_hooks(
        self, reads: Reads, base: Held, n_circuits: int, keep: Callable[[Held], None]
    ) -> Mapping[str, Change]:
        """See `CircuitPart`; its one slot reads a stream of its own."""

        def enter(value: Tensor) -> Tensor:
            streams, _ = reads()
            return self.layer.mlp_norm(streams[:, 0].flatten(0, 1)).to(value.dtype)

        def leave(value: Tensor) -> Tensor:
            keep((by_circuit(value, n_circuits) - base[0],))
            return value

        return {mlp_input(self.layer.number): enter, self._out: leave}

    def mix(self, changes: Held, base: Held, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `CircuitPart`."""
        return weighted(kept, changes[0][:, None])
