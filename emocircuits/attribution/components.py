"""Attribution over embeddings, heads and MLPs, by whatever gradients a method takes: nodes, edges, or both."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emocircuits.artifacts.attribution_result import AttributionResult, EdgeEffects
from emocircuits.attribution.graph import Graph, component_graph
from emocircuits.attribution.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks
from emocircuits.attribution.parts import Pair
from emocircuits.attribution.passes import Pass, forward
from emocircuits.models.anatomy import Anatomy, open_anatomy
from emocircuits.progress import track

WRITTEN_BYTES = 1 << 29
Points = Callable[[Anatomy, PairBatch, Pair, Metric, Sequence[str]], Iterator[tuple[float, Pass]]]
"""(model, batch, both runs, metric, taps) -> weighted passes whose gradients are averaged; weights add up to one."""


def component_attribution(
    model: Any,
    batches: Sequence[PairBatch],
    metric: Metric,
    points: Points,
    conventions: dict[str, str],
    *,
    edges: bool = True,
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of all components, and of all edges between them, per prompt.

    Args:
        model: any TransformerLens object.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        points: where gradients are taken.
        conventions: what the result says about itself.
        edges: whether edges are wanted, too.
        behaviour: name stored in the result.
        max_tokens: tokens per pass.

    Raises:
        UserError: prompts that do not fit, a metric that is not differentiable, a model without heads.
    """
    anatomy = open_anatomy(model, batches[0].corrupt)
    graph = component_graph(anatomy)
    order = np.argsort(all_indices(batches), kind="stable")
    nodes, links, clean, corrupt, rows = [], [], [], [], 0
    for chunk in track(list(chunks(batches, tokens_at_once(graph, max_tokens))), "attribution"):
        pair, spent = run_both(graph, chunk, metric)
        written = graph.written(pair) if edges else None
        effect, edge = 0.0, 0.0
        for weight, point in points(anatomy, chunk, pair, metric, graph.taps if edges else graph.node_taps):
            effect = effect + weight * graph.node_effects(pair, point)
            edge = edge + weight * graph.edge_effects(written, point) if edges else edge
            spent += 2
        nodes.append(effect)
        links.append(edge)
        clean.append(pair.clean.metric)
        corrupt.append(pair.corrupt.metric)
        rows += spent * len(chunk)
    sources, targets = graph.pairs
    found = EdgeEffects.of(sources, targets, stacked(links)[order], len(graph.nodes)) if edges else None
    return AttributionResult(
        behaviour, graph.nodes, stacked(nodes)[order], stacked(clean)[order], stacked(corrupt)[order], conventions,
        passes=-(-rows // len(order)), edges=found, slots=(*graph.slots,),
    )


def run_both(graph: Graph, chunk: PairBatch, metric: Metric) -> tuple[Pair, int]:
    """Forward passes on both sides of a batch, and how many they are."""
    clean, corrupt = (forward(graph.anatomy, tokens, metric, chunk.index, graph.value_taps) for tokens in (chunk.clean, chunk.corrupt))
    return Pair(clean, corrupt), 2


def tokens_at_once(graph: Graph, max_tokens: int) -> int:
    """Tokens per pass, fewer where what all nodes write would not fit into half a gigabyte."""
    width = len(graph.nodes) * graph.anatomy.model.cfg.d_model * 4
    return max(1, min(max_tokens, WRITTEN_BYTES // width))


def stacked(parts: Sequence[Tensor]) -> np.ndarray:
    """Results of several batches under one another."""
    return torch.cat(list(parts)).numpy(force=True)
