"""The attention heads of one block: nodes `a2.h3`, slots `a2.h3<q>`, `a2.h3<k>`, `a2.h3<v>`.

Where query heads share keys and values, <k> and <v> are those of the shared heads, as many as there are. A
head's slot reads the stream through the block's norm and its own projection; patching a slot changes that
projection and nothing else, so the direct path from one node into one slot can be run for real.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.held_norm import NormParts
from emocircuits.graphs.parts.part import Edit, Held, Reads, by_circuit, through_norm, weighted
from emocircuits.graphs.parts.read_gradients import ProjectedGradients, ReadGradients, StreamGradients
from emocircuits.passes.anatomy import QKV, Layer
from emocircuits.passes.record import Change, CleanCorrupt, Pass
from emocircuits.passes.window import Window, within


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

    def effects(self, sides: CleanCorrupt, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of z, gradient at z >, per head."""
        return (sides.change(self._z) * grads[self._z]).sum((1, 3))

    def write(
        self, sides: CleanCorrupt, window: Window, out: Float[Tensor, "node prompt pos d_model"]
    ) -> None:
        """See `Writer`."""
        self.layer.heads_write(within(sides.live.values[self._z], window), sides.change(self._z, window), out)

    def moved(
        self, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        moves = self.layer.heads_move(sides.corrupt.values[self._z], sides.change(self._z))
        return moves[prompts, :, nodes]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`."""
        wanted = source.values[self._z][prompts, :, nodes]

        def edit(value: Tensor) -> Tensor:
            value = value.clone()
            value[torch.arange(len(nodes)), :, nodes] = wanted
            return value

        return self._z, edit

    def read_gradients(self, sides: CleanCorrupt, point: Pass, weight: float) -> ReadGradients:
        """See `Reader`."""
        x = point.values[self.layer.attn_reads]
        grads = [point.grads[self.layer.hook(f"hook_{kind}")] for kind in QKV]
        parts, inward = self._reads_through(x)
        if parts is None:
            found = [
                torch.einsum("pthe,hde->hptd", weight * one, self.layer.weights[kind][0])
                for kind, one in zip(QKV, grads, strict=True)
            ]
            return StreamGradients(through_norm(self.layer.attn_norm, x, torch.cat(found)))
        held = parts.at(x)
        share = weight / held.scale
        # into contiguous memory in one go: what follows are large products
        drawn = [
            torch.mul(one.permute(2, 0, 1, 3), share, out=share.new_empty(one.permute(2, 0, 1, 3).shape))
            for one in grads
        ]
        if not held.moves:
            return ProjectedGradients(inward, drawn, [])
        pulls = []  # the scale answers to x, too
        for kind, one in zip(QKV, grads, strict=True):
            matrix, bias = self.layer.weights[kind]
            linear = point.values[self.layer.hook(f"hook_{kind}")] - (parts.shift @ matrix + bias)
            pulls.append(((linear * one).sum(-1) * share / x.shape[-1]).permute(2, 0, 1)[..., None])
        return ProjectedGradients(inward, drawn, [(torch.cat(pulls), held.unit)])

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

    def held(self, run: Pass) -> Held:
        """See `CircuitPart`."""
        return (run.values[self._z],)

    def shift(self, held: Held, base: Held) -> Float[Tensor, "prompt pos d_model"]:
        """See `CircuitPart`."""
        return self.layer.heads_out(base[0]) - self.layer.heads_out(held[0])

    def circuit_hooks(
        self, reads: Reads, base: Held, n_circuits: int, keep: Callable[[Held], None]
    ) -> Mapping[str, Change]:
        """See `CircuitPart`; each head's query, key and value read streams of their own."""
        normed: list[tuple[Tensor, list[int]]] = []

        def project(kind: str) -> Change:
            first = sum(self._counts[other] for other in QKV[: QKV.index(kind)])

            def change(value: Tensor) -> Tensor:
                if not normed:  # whichever of the three comes first; all read the same streams
                    streams, kinds = reads()
                    normed.append((self.layer.attn_norm(streams.flatten(0, 2)).view_as(streams), kinds))
                streams, kinds = normed[0]
                return self._projected(kind, streams, kinds[first : first + self._counts[kind]]).to(
                    value.dtype
                )

            return change

        def heads(value: Tensor) -> Tensor:
            normed.clear()
            keep((by_circuit(value, n_circuits) - base[0],))
            return value

        return {**{self.layer.hook(f"hook_{kind}"): project(kind) for kind in QKV}, self._z: heads}

    def mix(self, changes: Held, base: Held, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `CircuitPart`; a norm after the heads (OLMo 2, Gemma 2) sees the heads that an edge lets
        through on top of the baseline of the others.
        """
        (z,) = base
        written = torch.einsum("cpthe,hed->chptd", changes[0], self.layer.W_O)
        rest = torch.einsum("pthe,hed->ptd", z, self.layer.W_O) + self.layer.b_O
        mixed = weighted(kept, written)
        after = self.layer.attn_post((rest + mixed).flatten(0, 2)).view_as(mixed)
        return after - self.layer.attn_post(rest)

    def _projected(
        self, kind: str, streams: Float[Tensor, "circuit kind prompt pos d_model"], kinds: list[int]
    ) -> Float[Tensor, "row pos head d_head"]:
        weight, bias = self.layer.weights[kind]
        out = streams.new_empty(*streams.shape[:1], *streams.shape[2:4], *weight.shape[::2])
        for stream in set(kinds):
            heads = [head for head, read in enumerate(kinds) if read == stream]
            out[..., heads, :] = torch.einsum("cptd,hde->cpthe", streams[:, stream], weight[heads])
        return (out + bias).flatten(0, 1)
