"""Exact patching, the oracle: every node and every edge patched for real, one by one, with no shortcut.

    effect of a node = M(corrupt run with the node's clean value) - M(corrupt run)

Edges of a component graph let one slot alone read what the node's change writes (`graphs.component_patches`);
edges between features let one later feature alone answer (`graphs.feature_patches`).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.methods.card import CONVENTIONS, METHODS, MethodCard, Request
from emocircuits.attribution.methods.gradients import (
    feature_effects,
    graph_of_components,
    strongest,
    with_edges_of,
)
from emocircuits.errors import UserError
from emocircuits.graphs.features import FeatureGraph
from emocircuits.graphs.graph import Graph
from emocircuits.passes.gathered import Gathered, whole_passes
from emocircuits.passes.task import Task


def exact(request: Request) -> AttributionResult:
    """Answers a request by real patches; features are those that attribution patching finds.

    Raises:
        UserError: prompts that do not fit, or without any difference.
    """
    if request.nodes != "features":
        graph, spent = graph_of_components(request)
        found = exact_effects(graph, edges=request.edges)
        return replace(found, passes=whole_passes(found.passes + spent))
    found = feature_effects(request.task, {}, positions=request.positions)
    graph = FeatureGraph(request.task, found.nodes)
    patched = exact_effects(graph, edges=False)
    result = replace(patched, passes=whole_passes(patched.passes + found.passes))
    if not request.edges:
        return result
    chosen = np.sort(strongest(result, request.max_features))
    graph = graph.with_nodes([result.nodes[place] for place in chosen])
    graph.refuse_side_branches()
    return with_edges_of(result, chosen, exact_effects(graph, nodes=(), edges=True), only_effective=False)


def patched_nodes(task: Task, nodes: Sequence[str]) -> AttributionResult:
    """Effects of real patches of some features and errors, in the order given.

    Args:
        task: the question; its metric needs no gradient.
        nodes: node ids.

    Raises:
        UserError: no node, or one the SAEs do not have.
    """
    if not nodes:
        raise UserError("no node to patch")
    return exact_effects(FeatureGraph(task, tuple(nodes)), edges=False)


def exact_effects(
    graph: Graph,
    *,
    nodes: Sequence[int] | None = None,
    edges: bool = True,
    background: str = "corrupt",
) -> AttributionResult:
    """Effects of real patches of the nodes of a graph and, where wanted, of all edges between them.

    Args:
        graph: the graph; its metric needs no gradient.
        nodes: numbers of the nodes to patch; None means all. The effects of others are 0.
        edges: whether edges are wanted, too.
        background: `corrupt` (patches of clean values into the corrupt run) or `clean` (the other way round).
    """
    sources, targets = graph.pairs if edges else (np.zeros(0, dtype=np.int64),) * 2
    chosen = list(range(len(graph.nodes)) if nodes is None else nodes)
    gathered = Gathered(graph.task, "exact patching")
    for batch in gathered.shard():
        sides = graph.both_sides(batch)
        patcher = graph.patcher(sides)
        found = [patcher.nodes(chosen, background)]
        if edges:
            found.append(
                patcher.edges(list(zip(sources.tolist(), targets.tolist(), strict=True)), background)
            )
        passes = sides.passes + patcher.rows / len(batch)
        gathered.keep(batch, sides.clean.metric, sides.corrupt.metric, *found, passes=passes)
    (clean, corrupt, patched, *values), passes = gathered.collect()
    effects = np.zeros((len(clean), len(graph.nodes)), dtype=patched.dtype)
    effects[:, chosen] = patched
    verified = np.full(len(graph.nodes), np.nan)
    verified[chosen] = patched.mean(0)
    about = {**CONVENTIONS, "method": "exact", "gradient": "none", "background": f"{background} run"}
    return AttributionResult(
        graph.task.behaviour,
        graph.nodes,
        effects,
        clean,
        corrupt,
        about,
        whole_passes(passes),
        edges=EdgeEffects.of(sources, targets, values[0], len(graph.nodes), values[0].mean(0))
        if edges
        else None,
        verified=verified,
        slots=graph.slots,
    )


METHODS.add(
    MethodCard(
        name="exact",
        summary="one real patch per node and per edge; slow, the oracle of the others",
        formula="M(corrupt run with the node's clean value) − M(corrupt)",
        gradient="none",
        passes="one per node and per edge",
        source="",
        run=exact,
        positions=True,
    ),
)
