"""From the effects of a component or mixed graph to a circuit.

A head has three slots, so an edge ends in one of them: `embed -> a1.h0<k>`. In a circuit the slots are nodes
of their own, each with a structural link to the head it is read for, so that a path runs through: `embed ->
a1.h0<k> -> a1.h0 -> logits`. What enters a slot is the sum of all edges into it; that is the effect of the
slot's node and of its link. Where heads share keys and values, the slot has a link to each head of the group
and the effect is shared evenly: which of them uses it how much is not measured.
"""

from collections.abc import Sequence

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.circuits.nodes import circuit_node, measured, metric_scale, target_node
from emocircuits.errors import UserError
from emocircuits.names import TARGET, nodes_of_slot, parse_node
from emocircuits.numerics import bootstrap_interval


def component_circuit(
    result: AttributionResult,
    *,
    node_threshold: float,
    edge_threshold: float,
    max_nodes: int | None = None,
    connected: bool = True,
    seed: int = 0,
) -> CircuitGraph:
    """The circuit of all edges and nodes that are strong for certain; see `from_attribution`.

    Raises:
        UserError: no edges, or nothing is left that joins the embeddings to the logits.
    """
    if result.edges is None:
        raise UserError("a component result without edges", expected="attribute(…, edges=True)")
    scale, mean = metric_scale(result), result.effects.mean(0)
    low, high = bootstrap_interval(result.effects, seed=seed)
    strong_nodes = (np.abs(mean) >= node_threshold * scale) & ((low > 0) | (high < 0))
    links = _strong_edges(result, edge_threshold * scale, seed)
    if max_nodes is not None:
        links = _among_strongest(result, links, np.abs(mean), max_nodes)
    alone = () if connected else [result.nodes[place] for place in np.flatnonzero(strong_nodes)]
    graph = _joined(result, links, alone)
    if connected:
        graph = _on_the_way(graph)
    members = [place for place, node in enumerate(result.nodes) if node in graph]
    if not members:
        strongest = float(np.abs(result.edges.effects.mean(0)).max(initial=0)) / max(scale, 1e-30)
        raise UserError(
            f"no path of edges above {edge_threshold} whose intervals exclude 0 leads to the logits",
            expected=f"a lower edge_threshold (the strongest mean effect is {strongest:.4g}) or more prompts",
        )
    order = sorted(members, key=lambda place: (-abs(mean[place]), place))
    nodes = [
        circuit_node(
            result.nodes[place], (mean[place], low[place], high[place]), measured(result.verified, place)
        )
        for place in order
    ]
    edges = _edges(result, links, graph, seed)
    for slot in result.slots:
        if slot in graph and parse_node(slot).is_slot:
            node, structural = _slot(result, slot, graph, seed)
            nodes.append(node)
            edges += structural
    about = {
        **result.conventions,
        "edges": "direct: what the source writes, read by the slot",
        "slots": "a head's slot holds the sum of all edges into it and is linked to its head",
    }
    unpatched = int(result.unpatched_edges.sum())
    return CircuitGraph(
        result.behaviour,
        (*nodes, target_node(result, seed)),
        tuple(edges),
        conventions=about,
        scores={"unpatched_edges": unpatched} if unpatched else {},
    )


def _strong_edges(result: AttributionResult, least: float, seed: int) -> Bool[np.ndarray, "edge"]:
    effects = result.edges.effects
    mean = effects.mean(0)
    strong = np.abs(mean) >= max(least, 1e-30)
    low, high = np.zeros(len(mean)), np.zeros(len(mean))
    low[strong], high[strong] = bootstrap_interval(effects[:, strong], seed=seed)
    return strong & ((low > 0) | (high < 0)) & ~result.unpatched_edges


def _among_strongest(
    result: AttributionResult, links: Bool[np.ndarray, "edge"], strength: Float[np.ndarray, "node"], most: int
) -> Bool[np.ndarray, "edge"]:
    """Edges whose ends are among the strongest nodes; a node counts as much as its strongest edge where that
    is more.
    """
    weight, strength = np.abs(result.edges.effects.mean(0)), strength.copy()
    np.maximum.at(strength, result.edges.sources[links], weight[links])
    kept = {result.nodes[place] for place in np.argsort(-strength, kind="stable")[:most]}
    good = np.array([node in kept for node in result.nodes])[result.edges.sources]
    return (
        links
        & good
        & np.array(
            [slot == TARGET or any(node in kept for node in _feeds(result, slot)) for slot in result.slots]
        )[result.edges.targets]
    )


def _feeds(result: AttributionResult, slot: str) -> tuple[str, ...]:
    return nodes_of_slot(slot, result.nodes, result.slots)


def _joined(result: AttributionResult, links: Bool[np.ndarray, "edge"], more: Sequence[str]) -> nx.DiGraph:
    """Nodes, slots and the logits with the chosen edges and the links from slots to heads."""
    graph = nx.DiGraph()
    graph.add_nodes_from(more)
    for edge in np.flatnonzero(links):
        source, slot = result.nodes[result.edges.sources[edge]], result.slots[result.edges.targets[edge]]
        graph.add_edge(source, slot)
        if parse_node(slot).is_slot:
            graph.add_edges_from((slot, head) for head in _feeds(result, slot))
    return graph


def _on_the_way(graph: nx.DiGraph) -> nx.DiGraph:
    """What lies on a path from a node that reads nothing (embeddings, a pushed direction) to the logits."""
    if TARGET not in graph:
        return nx.DiGraph()
    starts = [node for node in graph if node in ("embed", "pos") or parse_node(node).kind == "direction"]
    after = set(starts).union(*(nx.descendants(graph, start) for start in starts))
    return graph.subgraph(after & (nx.ancestors(graph, TARGET) | {TARGET}))


def _edges(
    result: AttributionResult, links: Bool[np.ndarray, "edge"], graph: nx.DiGraph, seed: int
) -> list[Edge]:
    numbers = np.flatnonzero(links)
    ends = [
        (result.nodes[result.edges.sources[edge]], result.slots[result.edges.targets[edge]])
        for edge in numbers
    ]
    inside = [place for place, (source, slot) in enumerate(ends) if source in graph and slot in graph]
    chosen = result.edges.effects[:, numbers[inside]]
    mean, (low, high) = chosen.mean(0), bootstrap_interval(chosen, seed=seed)
    order = np.argsort(-np.abs(mean), kind="stable")
    return [
        Edge(
            *ends[inside[place]],
            mean[place],
            low[place],
            high[place],
            measured(result.edges.verified, numbers[inside[place]]),
        )
        for place in order
    ]


def _slot(result: AttributionResult, slot: str, graph: nx.DiGraph, seed: int) -> tuple[Node, list[Edge]]:
    into = (result.edges.targets == result.slots.index(slot)) & ~result.unpatched_edges
    total = result.edges.effects[:, into].sum(1)
    mean, (low, high) = float(total.mean()), bootstrap_interval(total, seed=seed)
    heads = [head for head in _feeds(result, slot) if head in graph]
    share = 1 / max(1, len(heads))
    low, high = float(low), float(high)
    node = circuit_node(slot, (mean, low, high))
    return node, [Edge(slot, head, share * mean, share * low, share * high) for head in heads]
