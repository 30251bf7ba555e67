"""The attention heads of one block: nodes `a2.h3`, slots `a2.h3<q>`, `a2.h3<k>`, `a2.h3<v>`.

Where query heads share keys and values, <k> and <v> are those of the shared heads, as many as there are.
A head's slot reads the stream through the block's norm and its own projection; patching a slot changes that projection and
nothing else, so the direct path from one node into one slot can be run for real.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.attribution.parts.held_norm import HeldNorm
from emocircuits.attribution.parts.part import Edit, Pair, through_norm
from emocircuits.attribution.passes import Pass
from emocircuits.models.anatomy import QKV, Layer


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

    def effects(self, pair: Pair, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of z, gradient at z >, per head."""
        return (pair.change(self._z) * grads[self._z]).sum((1, 3))

    def written(self, pair: Pair) -> Float[Tensor, "prompt node pos d_model"]:
        """See `Writer`."""
        return self.layer.heads_write(pair.live.values[self._z], pair.change(self._z)).transpose(1, 2)

    def moved(self, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Float[Tensor, "row pos d_model"]:
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

    def seeds(self, point: Pass) -> Float[Tensor, "slot prompt pos d_model"]:
        """See `Reader`."""
        x, norm = point.values[self.layer.attn_reads], self.layer.attn_norm
        grads = {kind: point.grads[self.layer.hook(f"hook_{kind}")] for kind in QKV}
        held = HeldNorm.of(norm, x)
        if held is None:
            found = [torch.einsum("pthe,hde->hptd", grads[kind], self.layer.weights[kind][0]) for kind in QKV]
            return through_norm(norm, x, torch.cat(found))
        out = x.new_empty(len(self.slots), *x.shape)
        first = 0
        for kind in QKV:
            weight, bias = self.layer.weights[kind]
            last = first + len(weight)
            inward = held.inward(weight).transpose(1, 2)
            scaled = (grads[kind] / held.scale[..., None]).permute(2, 0, 1, 3)
            torch.matmul(scaled.flatten(1, 2), inward, out=out[first:last].flatten(1, 2))
            if held.moves:  # the scale answers to x, too
                drawn = (point.values[self.layer.hook(f"hook_{kind}")] - (held.shift @ weight + bias)).permute(2, 0, 1, 3)
                out[first:last].addcmul_((drawn * scaled).sum(-1, keepdim=True), held.unit[None], value=-1 / x.shape[-1])
            first = last
        return out

    def hook_of(self, slot: int) -> str:
        """See `Reader`."""
        return self.layer.hook(f"hook_{self._kinds[slot][0]}")

    def patch_slots(
        self, base: Pass, slots: Int[Tensor, "row"], prompts: Int[Tensor, "row"], change: Float[Tensor, "row pos d_model"]
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
