"""The oracle of graphs: every node and every edge patched for real, one by one, with no shortcut."""

from collections.abc import Sequence

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.components import run_both
from emocircuits.attribution.methods.attribution_patching import CONVENTIONS
from emocircuits.graphs.components import Graph
from emocircuits.graphs.patches import Patcher
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.shared import Shared


def exact_graph(
    graph: Graph,
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    edges: bool = True,
    background: str = "corrupt",
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
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
    sources, targets = graph.pairs
    shared = Shared(batches, max_tokens, "exact patching")
    for chunk in shared.mine():
        pair, spent = run_both(graph, chunk, metric)
        patcher = Patcher(graph, chunk, pair, metric, max_tokens)
        found = [patcher.nodes(range(len(graph.nodes)), background)]
        if edges:
            found.append(
                patcher.edges(list(zip(sources.tolist(), targets.tolist(), strict=True)), background)
            )
        shared.keep(
            chunk, pair.clean.metric, pair.corrupt.metric, *found, passes=spent + patcher.rows / len(chunk)
        )
    (clean, corrupt, effects, *values), passes = shared.collect()
    links = (
        EdgeEffects.of(sources, targets, values[0], len(graph.nodes), values[0].mean(0)) if edges else None
    )
    conventions = {**CONVENTIONS, "method": "exact", "gradient": "none", "background": f"{background} run"}
    return AttributionResult(
        behaviour,
        graph.nodes,
        effects,
        clean,
        corrupt,
        conventions,
        passes=int(np.ceil(passes - 1e-9)),
        edges=links,
        verified=effects.mean(0),
        slots=graph.slots,
    )
