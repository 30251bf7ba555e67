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
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.card import METHODS, MethodCard, Request
from emocircuits.attribution.methods.gradients import (
    collected,
    graph_of_components,
    strongest,
    with_feature_edges,
)
from emocircuits.graphs.components import ComponentGraph
from emocircuits.graphs.parts import Heads
from emocircuits.names import parse_node, residual_site
from emocircuits.passes.anatomy import Layer
from emocircuits.passes.gathered import Gathered
from emocircuits.passes.record import CleanCorrupt, Pass, differentiate
from emocircuits.passes.resume import resume


def atp_star(request: Request) -> AttributionResult:
    """Answers a request; features are attributed among the components between them.

    Raises:
        UserError: wrong shapes, a metric that is not differentiable, prompts without any difference.
    """
    graph, spent = graph_of_components(request)
    wanted = request.edges and request.nodes != "features"
    gathered = Gathered(graph.task, "attribution", graph.max_tokens)
    for batch in gathered.shard():
        sides = graph.both_sides(batch)
        nodes, links, passes = _effects(graph, sides)
        gathered.keep(
            batch,
            sides.clean.metric,
            sides.corrupt.metric,
            nodes,
            *([links] if wanted else []),
            passes=sides.passes + passes,
        )
    about = {"method": "atp_star", "gradient": GRADIENT}
    result = collected(graph, gathered, about, edges=wanted, spent=spent)
    if request.nodes != "features":
        return result
    kept = [place for place, node in enumerate(result.nodes) if parse_node(node).kind != "component"]
    result = replace(
        result, nodes=tuple(result.nodes[place] for place in kept), effects=result.effects[:, kept], slots=()
    )
    if not request.edges:
        return result
    return with_feature_edges(result, request.task, strongest(result, request.max_features))


def _effects(
    graph: ComponentGraph, sides: CleanCorrupt
) -> tuple[Float[Tensor, "prompt node"], Float[Tensor, "prompt edge"], float]:
    """Effects of nodes and edges of one batch, and the passes spent."""
    task, batch = graph.task, sides.batch
    heads = [reader for reader in graph.readers if isinstance(reader, Heads)]
    patterns = [reader.layer.hook("hook_pattern") for reader in heads]
    point = differentiate(task, batch.corrupt, batch.index, (*graph.taps, *patterns))
    written, n_layers = graph.products.written(sides), len(task.anatomy.layers)
    links = graph.averaged(sides, iter([(1.0, point)]), edges=True).edge_effects()
    passes, column = 2.0, 0
    for reader in graph.readers:
        seen = graph.seen_by(reader)
        width = (seen.stop - seen.start) * len(reader.slots)
        if isinstance(reader, Heads):
            exact, rows = _exact_softmax(graph, reader, sides, written[:, seen], point)
            links[:, column : column + exact.shape[1]] = exact  # queries and keys stand before values
            passes += rows / len(batch) / n_layers
        column += width
    sources = torch.as_tensor(graph.pairs[0], device=links.device)
    nodes = links.new_zeros(len(batch), len(graph.nodes)).index_add_(1, sources, links)
    dropped = torch.zeros_like(nodes)
    for without in _without_each_block(graph, sides):
        dropped += graph.averaged(sides, iter([(1.0, without)])).effects.abs() / max(1, n_layers - 1)
        passes += 2
    nodes = torch.where(dropped > nodes.abs(), torch.where(nodes < 0, -dropped, dropped), nodes)
    return nodes, links, passes


def _exact_softmax(
    graph: ComponentGraph,
    reader: Heads,
    sides: CleanCorrupt,
    written: Float[Tensor, "prompt node pos d_model"],
    point: Pass,
) -> tuple[Float[Tensor, "prompt edge"], int]:
    """Edges into the query and key slots of one block, and the rows that its attention was run on."""
    layer, n_prompts, n_nodes, sign = reader.layer, len(sides.batch), written.shape[1], sides.sign
    stream = point.values[layer.attn_reads]
    rate, pattern = point.grads[layer.hook("hook_pattern")], point.values[layer.hook("hook_pattern")]
    block, rows, parts = max(1, graph.task.max_tokens // stream.shape[1]), 0, []
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
            resume(
                graph.task.model,
                sides.batch.corrupt[prompts],
                layer.attn_reads,
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


def _without_each_block(graph: ComponentGraph, sides: CleanCorrupt) -> Iterator[Pass]:
    """Differentiated passes in which no gradient passes what one block adds."""
    batch = sides.batch
    for layer in graph.task.anatomy.layers:
        names: Sequence[str] = (
            ("hook_attn_out", "hook_mlp_out") if layer.mlp is not None else ("hook_attn_out",)
        )
        changes = {layer.hook(name): lambda value: value.detach() for name in names}
        yield differentiate(
            graph.task, batch.corrupt, batch.index, graph.node_taps, changes=changes, unreached="zero"
        )


GRADIENT = "corrupt run; softmax of queries and keys exact; GradDrop over blocks"
METHODS.add(
    MethodCard(
        name="atp_star",
        summary="attribution patching without its two blind spots: saturated attention and cancellation",
        formula="queries and keys: Σ (P'_qk − P_qk) dM/dP_qk with P' the patched softmax; nodes at least "
        "1/(L−1) Σ_l |effect without block l|",
        gradient="corrupt run",
        passes="4 + 2·L and attention of single blocks",
        source="Kramár et al. 2403.00745",
        run=atp_star,
    ),
)
