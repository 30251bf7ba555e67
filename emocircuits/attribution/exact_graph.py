"""The oracle of graphs: every node and every edge patched for real, one by one, with no shortcut."""

from collections.abc import Sequence

import numpy as np

from emocircuits.artifacts.attribution_result import AttributionResult, EdgeEffects
from emocircuits.attribution.attribution_patching import CONVENTIONS
from emocircuits.attribution.components import run_both, stacked
from emocircuits.attribution.graph import Graph
from emocircuits.attribution.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks
from emocircuits.attribution.patches import Patcher
from emocircuits.progress import track


def exact_graph(
    graph: Graph, batches: Sequence[PairBatch], metric: Metric, *, edges: bool = True, background: str = "corrupt",
    behaviour: str = "", max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of real patches of all nodes and, where wanted, of all edges between them.

    Args:
        graph: the graph.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt; needs no gradient.
        edges: whether edges are wanted, too.
        background: `corrupt` (patches of clean values into the corrupt run) or `clean` (the other way round).
        behaviour: name stored in the result.
        max_tokens: tokens per pass.
    """
    order = np.argsort(all_indices(batches), kind="stable")
    sources, targets = graph.pairs
    nodes, links, clean, corrupt, rows = [], [], [], [], 0
    for chunk in track(list(chunks(batches, max_tokens)), "exact patching"):
        pair, spent = run_both(graph, chunk, metric)
        patcher = Patcher(graph, chunk, pair, metric, max_tokens)
        nodes.append(patcher.nodes(range(len(graph.nodes)), background))
        if edges:
            links.append(patcher.edges(list(zip(sources.tolist(), targets.tolist(), strict=True)), background))
        clean.append(pair.clean.metric)
        corrupt.append(pair.corrupt.metric)
        rows += spent * len(chunk) + patcher.rows
    effects, found = stacked(nodes)[order], None
    if edges:
        values = stacked(links)[order]
        found = EdgeEffects.of(sources, targets, values, len(graph.nodes), values.mean(0))
    conventions = {**CONVENTIONS, "method": "exact", "gradient": "none", "background": f"{background} run"}
    return AttributionResult(behaviour, graph.nodes, effects, stacked(clean)[order], stacked(corrupt)[order], conventions,
                             passes=-(-rows // len(order)), edges=found, verified=effects.mean(0), slots=graph.slots)
