"""AtP*: attribution patching without its two blind spots (Kramár et al. 2024, arXiv 2403.00745).

*Saturated attention.* A softmax far from its bend has no gradient, though another query or key may turn it
over. So the edge from a node into a head's queries is not taken through the softmax's derivative: the pattern
P' is computed with the patched query and

    edge = sum over queries q and keys k of (P'_qk - P_qk) dM/dP_qk

with P and dM/dP from the corrupt run; the same for keys. The change of the query is what the node writes,
taken through the norm to first order. (The paper patches keys one position at a time and has a closed form;
here a node is patched at all its positions, and the block's own attention gives the pattern.)

*Cancellation.* Where a direct and an indirect effect cancel, a node looks idle. GradDrop takes as many
gradients as there are blocks, each without what one block adds to the stream: a node's effect is at least the
mean over them of |effect without the block|, with the sign of its plain effect.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.graphs.components import Graph
from emocircuits.graphs.parts import Heads, Pair
from emocircuits.names import residual_site
from emocircuits.passes.anatomy import Layer
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.passes.record import Pass, differentiate
from emocircuits.passes.resume import resume


def atp_star(
    graph: Graph, chunk: PairBatch, pair: Pair, metric: Metric, *, edges: bool, max_tokens: int
) -> tuple[Float[Tensor, "prompt node"], Float[Tensor, "prompt edge"] | None, float]:
    """Effects of nodes and edges of one batch, and the passes spent.

    Args:
        graph: the graph.
        chunk: the prompts.
        pair: both runs.
        metric: logits -> one value per prompt.
        edges: whether the edges are wanted, too.
        max_tokens: tokens per pass.
    """
    heads = [reader for reader in graph.readers if isinstance(reader, Heads)]
    patterns = [reader.layer.hook("hook_pattern") for reader in heads]
    point = differentiate(graph.anatomy, chunk.corrupt, metric, chunk.index, (*graph.taps, *patterns))
    written = graph.written(pair)
    links, passes, column = graph.edge_effects(pair, graph.seeds(point)), 2.0, 0
    for reader in graph.readers:
        seen = graph.seen_by(reader)
        width = (seen.stop - seen.start) * len(reader.slots)
        if isinstance(reader, Heads):
            found, rows = _fixed(
                graph, reader, chunk, written[:, seen], point, -1 if pair.ablated else 1, max_tokens
            )
            links[:, column : column + found.shape[1]] = found  # queries and keys stand before values
            passes += rows / len(chunk) / len(graph.anatomy.layers)
        column += width
    sources = torch.as_tensor(graph.pairs[0], device=links.device)
    nodes = torch.zeros(len(chunk), len(graph.nodes), dtype=links.dtype, device=links.device).index_add_(
        1, sources, links
    )
    dropped = torch.zeros_like(nodes)
    for without in _without_each_block(graph, chunk, metric):
        dropped += graph.node_effects(pair, without).abs() / max(1, len(graph.anatomy.layers) - 1)
        passes += 2
    nodes = torch.where(dropped > nodes.abs(), torch.where(nodes < 0, -dropped, dropped), nodes)
    return nodes, links if edges else None, passes


def _fixed(
    graph: Graph,
    reader: Heads,
    chunk: PairBatch,
    written: Float[Tensor, "prompt node pos d_model"],
    point: Pass,
    sign: int,
    max_tokens: int,
) -> tuple[Float[Tensor, "prompt edge"], int]:
    """Edges into the query and key slots of one block, and the rows that its attention was run on; `sign` is
    -1 where patches take clean values out.
    """
    layer, n_prompts, n_nodes = reader.layer, len(chunk), written.shape[1]
    stream = point.values[layer.attn_reads]
    rate, pattern = point.grads[layer.hook("hook_pattern")], point.values[layer.hook("hook_pattern")]
    block, rows, parts = max(1, max_tokens // stream.shape[1]), 0, []
    for kind in ("q", "k"):
        weight = layer.weights[kind][0]
        heads = rate.shape[1] // weight.shape[0]
        found = rate.new_zeros(n_prompts, n_nodes, weight.shape[0])
        flat = [(prompt, node) for node in range(n_nodes) for prompt in range(n_prompts)]
        for first in range(0, len(flat), block):
            prompts, nodes = (
                torch.tensor(part, device=stream.device)
                for part in zip(*flat[first : first + block], strict=True)
            )
            normed = _to_first_order(layer, stream[prompts], written[prompts, nodes])
            change = sign * torch.einsum("rtd,hde->rthe", normed, weight)
            seen: list[Tensor] = []
            with torch.no_grad():
                resume(
                    graph.anatomy.model,
                    chunk.corrupt[prompts],
                    f"blocks.{layer.number}.hook_resid_pre",
                    stream[prompts],
                    until=residual_site(layer.number),
                    hooks=[
                        (layer.hook(f"hook_{kind}"), lambda value, hook, change=change: value + change),
                        (layer.hook("hook_pattern"), _keeper(seen)),
                    ],
                )
            effect = sign * ((seen[0] - pattern[prompts]) * rate[prompts]).sum((2, 3))
            # a shared key serves several heads
            found[prompts, nodes] = effect.unflatten(1, (weight.shape[0], heads)).sum(2).to(found)
            rows += len(prompts)
        parts.append(found.transpose(1, 2).flatten(1))
    return torch.cat(parts, dim=1), rows


def _to_first_order(layer: Layer, stream: Tensor, change: Tensor) -> Float[Tensor, "row pos d_model"]:
    """A change of the stream taken through the block's norm."""
    return torch.func.jvp(layer.attn_norm, (stream,), (change.to(stream.dtype),))[1]


def _keeper(seen: list[Tensor]) -> Callable[..., None]:
    return lambda value, hook: seen.append(value.detach())


def _without_each_block(graph: Graph, chunk: PairBatch, metric: Metric) -> Iterator[Pass]:
    """Differentiated passes in which no gradient passes what one block adds."""
    for layer in graph.anatomy.layers:
        names: Sequence[str] = (
            ("hook_attn_out", "hook_mlp_out") if layer.mlp is not None else ("hook_attn_out",)
        )
        changes = {layer.hook(name): lambda value: value.detach() for name in names}
        yield differentiate(
            graph.anatomy,
            chunk.corrupt,
            metric,
            chunk.index,
            graph.node_taps,
            changes=changes,
            unreached="zero",
        )
