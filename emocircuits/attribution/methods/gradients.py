"""Effects to first order, whatever gradients they are taken with: all features and errors, or all nodes of a
graph, and the edges between them.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.methods.card import CONVENTIONS, Request
from emocircuits.graphs.components import ComponentGraph, component_graph
from emocircuits.graphs.discover import discover
from emocircuits.graphs.feature_sides import feature_sides, with_path_gradients
from emocircuits.graphs.features import FeatureGraph
from emocircuits.graphs.graph import Graph
from emocircuits.names import parse_node
from emocircuits.passes.gathered import Gathered, whole_passes
from emocircuits.passes.task import Task


def feature_effects(
    task: Task, conventions: Mapping[str, str], *, steps: int = 0, positions: bool = False
) -> AttributionResult:
    """Effects of all features and errors, without edges.

    Args:
        task: the question.
        conventions: what the result says about itself, besides the usual.
        steps: midpoints of each site's path; 0 takes the gradient of the live run.
        positions: one node per token position.
    """

    def sides_of(batch):
        sides = feature_sides(task, batch, gradient=not steps)
        return with_path_gradients(task, sides, steps) if steps else sides

    return discover(task, sides_of, {**CONVENTIONS, **conventions}, positions=positions)


def graph_effects(
    graph: Graph, conventions: Mapping[str, str], *, steps: int = 0, edges: bool = True
) -> AttributionResult:
    """Effects of all nodes of a graph, and of all edges between them.

    Args:
        graph: the graph.
        conventions: what the result says about itself, besides the usual.
        steps: midpoints of the path; 0 takes the gradient of the live run.
        edges: whether edges are wanted, too.
    """
    gathered = Gathered(graph.task, "attribution", getattr(graph, "max_tokens", None))
    for batch in gathered.shard():
        sides = graph.both_sides(batch, gradient=not steps, edges=edges)
        linear = graph.linear(sides, steps=steps, edges=edges)
        links = [linear.edge_effects()] if edges else []
        passes = linear.passes + (linear.edge_passes if edges else 0)
        gathered.keep(
            batch, sides.clean.metric, sides.corrupt.metric, linear.node_effects(), *links, passes=passes
        )
    return collected(graph, gathered, conventions, edges=edges)


def collected(
    graph: Graph, gathered: Gathered, conventions: Mapping[str, str], *, edges: bool, spent: float = 0
) -> AttributionResult:
    """The result of what batches gave: both metrics, effects of nodes and, where they are wanted, of edges.

    Args:
        graph: nodes and edges.
        gathered: what was kept, in this order.
        conventions: what the result says about itself, besides the usual.
        edges: whether edges were kept.
        spent: passes spent before.
    """
    (clean, corrupt, effects, *links), passes = gathered.collect()
    return AttributionResult(
        graph.task.behaviour,
        graph.nodes,
        effects,
        clean,
        corrupt,
        {**CONVENTIONS, **conventions},
        whole_passes(passes + spent),
        edges=EdgeEffects.of(*graph.pairs, links[0], len(graph.nodes)) if edges else None,
        slots=graph.slots,
    )


def graph_of_components(request: Request) -> tuple[ComponentGraph, int]:
    """The graph of all components and, where SAEs are wanted, of their strongest features; and the passes
    spent on choosing them.
    """
    if request.nodes == "components":
        return component_graph(request.task.with_saes({})), 0
    found = feature_effects(request.task, {})
    strong = [found.nodes[place] for place in strongest(found, request.max_features)]
    return component_graph(
        request.task, [node for node in strong if parse_node(node).kind == "feature"]
    ), found.passes


def strongest(result: AttributionResult, most: int) -> list[int]:
    """Places of the nodes with the largest mean effects, strongest first."""
    order = np.argsort(-np.abs(result.effects.mean(0)), kind="stable")
    return [int(place) for place in order[:most]]


def with_feature_edges(
    result: AttributionResult, task: Task, nodes: list[int], *, steps: int = 0
) -> AttributionResult:
    """The same result with the edges among some of its features and errors.

    Args:
        result: effects of features and errors of the task's SAEs.
        task: the question that it answers.
        nodes: places of the nodes.
        steps: midpoints of the gradients that edges go with; 0 takes the gradient of the live run.
    """
    chosen = np.sort(nodes)
    graph = FeatureGraph(task, tuple(result.nodes[place] for place in chosen))
    graph.refuse_side_branches()
    drawn = graph_effects(graph, {}, steps=steps)
    return with_edges_of(result, chosen, drawn)


def with_edges_of(
    result: AttributionResult, places: np.ndarray, drawn: AttributionResult, *, only_effective: bool = True
) -> AttributionResult:
    """A result with the edges of another one over some of its nodes.

    Args:
        result: effects of all nodes.
        places: places of the other's nodes in it.
        drawn: effects of edges among these nodes.
        only_effective: whether edges that do nothing on any prompt are left out.
    """
    links, ends = drawn.edges, np.append(places, len(result.nodes))
    kept = (links.effects != 0).any(0) if only_effective else np.ones(links.effects.shape[1], dtype=bool)
    verified = None if links.verified is None else links.verified[kept]
    edges = EdgeEffects.of(
        places[links.sources[kept]],
        ends[links.targets[kept]],
        links.effects[:, kept],
        len(result.nodes),
        verified,
    )
    return replace(result, edges=edges, slots=(), passes=result.passes + drawn.passes)
