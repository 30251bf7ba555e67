"""The attention heads of one block: nodes `a2.h3`, slots `a2.h3<q>`, `a2.h3<k>`, `a2.h3<v>`.

Where query heads share keys and values, <k> and <v> are those of the shared heads, as many as there are. A
head's slot reads the stream through the block's norm and its own projection; patching a slot changes that
projection and nothing else, so the direct path from one node into one slot can be run for real.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.held_norm import NormParts
from emocircuits.graphs.parts.part import Edit, Pair, through_norm
from emocircuits.graphs.parts.seeds import ProjectedSeeds, Seeds, StreamSeeds
from emocircuits.graphs.parts.window import Window, within
from emocircuits.passes.anatomy import QKV, Layer
from emocircuits.passes.record import Pass


class Heads:
    """Writer and reader."""

    cuts, constants = False, ()

    def __init__(self, layer: Layer):
        self.layer, where = layer, layer.number
        self._counts = {kind: layer.weights[kind][0].shape[0] for kind in QKV}
        self.nodes = tuple(f"a{where}.h{head}" for head in range(self._counts["q"]))
        self.slots = tuple(f"a{where}.h{head}<{kind}>" for kind in QKV for head in range(self._counts[kind]))
        self._kinds = [(kind, head) for kind in QKV for head in range(self._counts[kind])]
        self._z = layer.hook("hook_z")
        self.taps = (self._z,)
        self.read_taps = (layer.attn_reads, *(layer.hook(f"hook_{kind}") for kind in QKV))
        self.reads_at, self.writes_at = 4.0 * where, 4.0 * where + 1
        self._way: tuple[NormParts | None, list[Tensor]] | None = None

    def effects(self, pair: Pair, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of z, gradient at z >, per head."""
        return (pair.change(self._z) * grads[self._z]).sum((1, 3))

    def write(self, pair: Pair, window: Window, out: Float[Tensor, "node prompt pos d_model"]) -> None:
        """See `Writer`."""
        self.layer.heads_write(within(pair.live.values[self._z], window), pair.change(self._z, window), out)

    def moved(
        self, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        moves = self.layer.heads_move(pair.corrupt.values[self._z], pair.change(self._z))
        return moves[prompts, :, nodes]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`."""
        wanted = source.values[self._z][prompts, :, nodes]

        def edit(value: Tensor) -> Tensor:
            value = value.clone()
            value[torch.arange(len(nodes)), :, nodes] = wanted
            return value

        return self._z, edit

    def seeds(self, point: Pass, weight: float) -> Seeds:
        """See `Reader`."""
        x = point.values[self.layer.attn_reads]
        grads = [point.grads[self.layer.hook(f"hook_{kind}")] for kind in QKV]
        parts, inward = self._reads_through(x)
        if parts is None:
            found = [
                torch.einsum("pthe,hde->hptd", weight * one, self.layer.weights[kind][0])
                for kind, one in zip(QKV, grads, strict=True)
            ]
            return StreamSeeds(through_norm(self.layer.attn_norm, x, torch.cat(found)))
        held = parts.at(x)
        share = weight / held.scale
        # into contiguous memory in one go: what follows are large products
        drawn = [
            torch.mul(one.permute(2, 0, 1, 3), share, out=share.new_empty(one.permute(2, 0, 1, 3).shape))
            for one in grads
        ]
        if not held.moves:
            return ProjectedSeeds(inward, drawn, [])
        pulls = []  # the scale answers to x, too
        for kind, one in zip(QKV, grads, strict=True):
            matrix, bias = self.layer.weights[kind]
            linear = point.values[self.layer.hook(f"hook_{kind}")] - (parts.shift @ matrix + bias)
            pulls.append(((linear * one).sum(-1) * share / x.shape[-1]).permute(2, 0, 1)[..., None])
        return ProjectedSeeds(inward, drawn, [(torch.cat(pulls), held.unit)])

    def _reads_through(self, x: Tensor) -> tuple[NormParts | None, list[Tensor]]:
        """The norm before the projections, and the way back from the projections to the stream; found at the
        first stream.
        """
        if self._way is None:
            parts = NormParts.of(self.layer.attn_norm, x)
            inward = (
                []
                if parts is None
                else [parts.inward(self.layer.weights[kind][0]).transpose(1, 2) for kind in QKV]
            )
            self._way = parts, inward
        return self._way

    def hook_of(self, slot: int) -> str:
        """See `Reader`."""
        return self.layer.hook(f"hook_{self._kinds[slot][0]}")

    def patch_slots(
        self,
        base: Pass,
        slots: Int[Tensor, "row"],
        prompts: Int[Tensor, "row"],
        change: Float[Tensor, "row pos d_model"],
    ) -> Edit:
        """See `Reader`."""
        kind = self._kinds[int(slots[0])][0]
        heads = torch.tensor([self._kinds[int(slot)][1] for slot in slots], device=slots.device)
        stream = base.values[self.layer.attn_reads][prompts]
        normed = self.layer.attn_norm(stream + change) - self.layer.attn_norm(stream)
        added = torch.einsum("rtd,rde->rte", normed, self.layer.weights[kind][0][heads])

        def edit(value: Tensor) -> Tensor:
            value = value.clone()
            value[torch.arange(len(heads)), :, heads] += added
            return value

        return self.layer.hook(f"hook_{kind}"), edit
