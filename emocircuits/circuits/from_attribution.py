"""From effects to a circuit, without a model: what is strong for certain.

Nodes and edges stay whose mean effect reaches its threshold, a share of the mean |metric(clean) -
metric(corrupt)|, and whose bootstrap interval over prompts excludes 0. In a feature result the nodes decide,
balanced over the sites (`graphs.order.balanced_top`), and edges are drawn among them. In a component or mixed
result the edges decide (`component_circuit`). An edge that a search only predicted and never patched is left
out, and counted.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph, Edge
from emocircuits.circuits.component_circuit import component_circuit
from emocircuits.circuits.nodes import annotated, circuit_node, measured, metric_scale, target_node
from emocircuits.errors import UserError
from emocircuits.graphs.order import balanced_top
from emocircuits.names import TARGET, parse_node
from emocircuits.numerics import bootstrap_interval

NODE_THRESHOLD, EDGE_THRESHOLD = 0.01, 0.0025


def from_attribution(
    result: AttributionResult,
    *,
    node_threshold: float = NODE_THRESHOLD,
    edge_threshold: float = EDGE_THRESHOLD,
    max_nodes: int | None = None,
    connected: bool = True,
    seed: int = 0,
    target_label: str = "",
    **about: Any,
) -> CircuitGraph:
    """The circuit of what is strong for certain.

    Args:
        result: what `attribute` found.
        node_threshold: share of the mean |metric(clean) - metric(corrupt)| a mean node effect must reach.
        edge_threshold: the same for edges.
        max_nodes: at most this many nodes (slots do not count).
        connected: whether components off every path are left out.
        seed: seed of the bootstrap.
        target_label: text of the metric's node.
        **about: further fields of `CircuitGraph` (scores, provenance, …).

    Raises:
        UserError: nothing passes the thresholds; the message says how strong the strongest is.
    """
    parsed = [parse_node(node) for node in result.nodes]
    if {node.kind for node in parsed} <= {"feature", "error"}:
        nodes = select_nodes(result, threshold=node_threshold, max_nodes=max_nodes, seed=seed)
        circuit = circuit_of_nodes(result, nodes, edge_threshold=edge_threshold, seed=seed)
    else:
        circuit = component_circuit(
            result,
            node_threshold=node_threshold,
            edge_threshold=edge_threshold,
            max_nodes=max_nodes,
            connected=connected,
            seed=seed,
        )
    circuit = annotated(circuit, labels={TARGET: target_label})
    sites = list(dict.fromkeys(node.site for node in parsed if node.site is not None))
    thresholds = {"node": node_threshold, "edge": edge_threshold, "max_nodes": max_nodes}
    return replace(
        circuit,
        conventions={**circuit.conventions, "sites": sites, **about.pop("conventions", {})},
        thresholds={**thresholds, **about.pop("thresholds", {})},
        scores={**circuit.scores, **about.pop("scores", {})},
        **about,
    )


def select_nodes(
    result: AttributionResult, *, threshold: float = 0.01, max_nodes: int | None = None, seed: int = 0
) -> tuple[str, ...]:
    """The nodes of a feature circuit, strongest first.

    Args:
        result: effects on the find prompts.
        threshold: share of the mean |metric(clean) - metric(corrupt)| a mean effect must reach.
        max_nodes: at most this many.
        seed: seed of the bootstrap.

    Raises:
        UserError: no node passes; the message says which share the strongest has.
    """
    mean = result.effects.mean(0)
    low, high = bootstrap_interval(result.effects, seed=seed)
    scale = metric_scale(result)
    certain = (low > 0) | (high < 0)
    chosen = certain & (np.abs(mean) >= threshold * scale)
    if not chosen.any():
        strongest = float(np.abs(mean).max(initial=0)) / max(scale, 1e-30)
        raise UserError(
            f"no node passes the threshold {threshold} with an interval that excludes 0",
            expected=f"a lower threshold (the strongest mean effect is {strongest:.4g}) or more prompts",
        )
    sites = np.array([parse_node(node).site for node in result.nodes])
    kept = balanced_top(np.where(certain, np.abs(mean), 0.0), chosen, sites, max_nodes or len(mean))
    return tuple(result.nodes[place] for place in sorted(kept, key=lambda place: (-abs(mean[place]), place)))


def circuit_of_nodes(
    result: AttributionResult, nodes: Sequence[str], *, edge_threshold: float = EDGE_THRESHOLD, seed: int = 0
) -> CircuitGraph:
    """The circuit graph of chosen features and errors, with the strong certain edges among them.

    Args:
        result: effects, with edges where the circuit is to have some.
        nodes: the chosen nodes.
        edge_threshold: share of the mean |metric(clean) - metric(corrupt)| a mean edge effect must reach.
        seed: seed of the bootstrap.
    """
    place = {node: number for number, node in enumerate(result.nodes)}
    columns = [place[node] for node in nodes]
    low, high = bootstrap_interval(result.effects[:, columns], seed=seed)
    mean = result.effects[:, columns].mean(0)
    made = [
        circuit_node(
            node, (mean[number], low[number], high[number]), measured(result.verified, columns[number])
        )
        for number, node in enumerate(nodes)
    ]
    edges = _strong_edges(result, set(columns), edge_threshold * metric_scale(result), seed)
    about = {
        **result.conventions,
        "edges": "between adjacent sites; part of the effect through the target node",
    }
    unpatched = int(result.unpatched_edges.sum())
    return CircuitGraph(
        result.behaviour,
        (*made, target_node(result, seed)),
        edges,
        thresholds={"edge": edge_threshold},
        conventions=about,
        scores={"unpatched_edges": unpatched} if unpatched else {},
    )


def _strong_edges(result: AttributionResult, columns: set[int], least: float, seed: int) -> tuple[Edge, ...]:
    edges = result.edges
    if edges is None or not len(edges.targets):
        return ()
    names, source, inside = (*result.nodes, TARGET), edges.sources, list(columns)
    mean = edges.effects.mean(0)
    low, high = bootstrap_interval(edges.effects, seed=seed)
    among = np.isin(source, inside) & (np.isin(edges.targets, inside) | (edges.targets == len(result.nodes)))
    kept = among & (np.abs(mean) >= least) & ((low > 0) | (high < 0)) & ~result.unpatched_edges
    order = np.argsort(-np.abs(mean), kind="stable")
    return tuple(
        Edge(names[source[e]], names[edges.targets[e]], mean[e], low[e], high[e], measured(edges.verified, e))
        for e in order
        if kept[e]
    )
