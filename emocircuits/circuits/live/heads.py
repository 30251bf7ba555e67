"""The attention heads of one block in a pass of circuits: each head's query, key and value read streams of
their own.

A norm behind the heads (OLMo 2, Gemma 2) sees the heads that an edge lets through on top of the baseline of
the others.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.circuits.live.part import Change, Changes, Reads, Values, by_circuit, weighted
from emocircuits.graphs.parts import Heads
from emocircuits.passes.anatomy import QKV
from emocircuits.passes.record import Pass


class LiveHeads:
    """See `LivePart`."""

    def __init__(self, part: Heads):
        self._layer, self._z = part.layer, part.layer.hook("hook_z")
        self._counts = {kind: self._layer.weights[kind][0].shape[0] for kind in QKV}
        self.taps = (self._z,)

    def values(self, run: Pass) -> Values:
        """See `LivePart`."""
        return (run.values[self._z],)

    def shift(self, live: Values, base: Values) -> Float[Tensor, "prompt pos d_model"]:
        """See `LivePart`."""
        return self._layer.heads_out(base[0]) - self._layer.heads_out(live[0])

    def hooks(self, reads: Reads, base: Values, n_circuits: int, keep: Callable) -> Mapping[str, Change]:
        """See `LivePart`."""
        normed: list[tuple[Tensor, list[int]]] = []

        def project(kind: str) -> Change:
            first = sum(self._counts[other] for other in QKV[: QKV.index(kind)])

            def change(value: Tensor) -> Tensor:
                if not normed:  # whichever of the three comes first; all read the same streams
                    streams, kinds = reads()
                    normed.append((self._layer.attn_norm(streams.flatten(0, 2)).view_as(streams), kinds))
                streams, kinds = normed[0]
                return self._projected(kind, streams, kinds[first : first + self._counts[kind]]).to(
                    value.dtype
                )

            return change

        def heads(value: Tensor) -> Tensor:
            normed.clear()
            keep((by_circuit(value, n_circuits) - base[0],))
            return value

        return {**{self._layer.hook(f"hook_{kind}"): project(kind) for kind in QKV}, self._z: heads}

    def mix(self, changes: Changes, base: Values, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `LivePart`."""
        (z,) = base
        written = torch.einsum("cpthe,hed->chptd", changes[0], self._layer.W_O)
        rest = torch.einsum("pthe,hed->ptd", z, self._layer.W_O) + self._layer.b_O
        mixed = weighted(kept, written)
        behind = self._layer.attn_post((rest + mixed).flatten(0, 2)).view_as(mixed)
        return behind - self._layer.attn_post(rest)

    def _projected(
        self, kind: str, streams: Float[Tensor, "circuit kind prompt pos d_model"], kinds: list[int]
    ) -> Float[Tensor, "row pos head d_head"]:
        weight, bias = self._layer.weights[kind]
        out = streams.new_empty(*streams.shape[:1], *streams.shape[2:4], *weight.shape[::2])
        for one in set(kinds):
            heads = [head for head, read in enumerate(kinds) if read == one]
            out[..., heads, :] = torch.einsum("cptd,hde->cpthe", streams[:, one], weight[heads])
        return (out + bias).flatten(0, 1)
