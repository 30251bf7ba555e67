"""The MLP of one block: one node and one slot, both `m2`."""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor, nn

from emocircuits.graphs.parts.part import Edit, Pair, through_norm
from emocircuits.graphs.parts.seeds import StreamSeeds
from emocircuits.graphs.parts.window import Window
from emocircuits.passes.anatomy import Layer
from emocircuits.passes.record import Pass, mlp_input, mlp_stream


class MLP:
    """Writer and reader."""

    cuts, constants = False, ()

    def __init__(self, layer: Layer):
        self.layer, where = layer, layer.number
        self.nodes = self.slots = (f"m{where}",)
        self._out = layer.hook("hook_mlp_out")
        self.taps = (self._out,)
        # behind a norm of its own autograd has the gradient at the stream already
        self._own_norm = isinstance(layer.mlp_norm, nn.Module) and layer.mlp_norm is not layer.attn_norm
        self._entry = mlp_stream(where) if self._own_norm else mlp_input(where)
        self.read_taps = (layer.mlp_reads, self._entry)
        self.reads_at, self.writes_at = 4.0 * where + (0 if layer.parallel else 2), 4.0 * where + 3

    def effects(self, pair: Pair, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of the output, gradient there >."""
        return (pair.change(self._out) * grads[self._out]).sum((1, 2))[:, None]

    def write(self, pair: Pair, window: Window, out: Float[Tensor, "node prompt pos d_model"]) -> None:
        """See `Writer`."""
        out[0] = pair.change(self._out, window)

    def moved(
        self, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        return pair.change(self._out)[prompts]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`."""
        return self._out, lambda value: source.values[self._out][prompts]

    def seeds(self, point: Pass, weight: float) -> StreamSeeds:
        """See `Reader`."""
        grads = weight * point.grads[self._entry][None]
        return StreamSeeds(
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
