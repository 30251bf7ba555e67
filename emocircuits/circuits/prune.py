"""Make a circuit smaller: drop weak nodes and edges, then what no longer reaches the metric."""

from dataclasses import replace

import networkx as nx

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError


def prune(
    circuit: CircuitGraph,
    *,
    node_threshold: float = 0.0,
    edge_threshold: float = 0.0,
    connected: bool = False,
) -> CircuitGraph:
    """A sub-graph; thresholds of 0 give the circuit itself, a stricter threshold gives a sub-graph of a
    looser one.

    Args:
        circuit: the circuit; target nodes always stay.
        node_threshold: least |effect| of a node.
        edge_threshold: least |weight| of an edge.
        connected: whether nodes without a path to a target are dropped too.

    Raises:
        UserError: nothing but targets is left.
    """
    nodes = [
        n for n in circuit.nodes if n.kind == "target" or n.effect is None or abs(n.effect) >= node_threshold
    ]
    names = {node.id for node in nodes}
    edges = [
        e
        for e in circuit.edges
        if abs(e.weight) >= edge_threshold and e.source in names and e.target in names
    ]
    if connected:
        graph = nx.DiGraph((edge.source, edge.target) for edge in edges)
        targets = [node.id for node in nodes if node.kind == "target"]
        names = set(targets).union(*(nx.ancestors(graph, target) for target in targets if target in graph))
        nodes = [node for node in nodes if node.id in names]
        edges = [edge for edge in edges if edge.source in names and edge.target in names]
    if not any(node.kind != "target" for node in nodes):
        raise UserError(
            f"the circuit of {circuit.behaviour} is empty after pruning (node threshold {node_threshold}, "
            f"edge threshold {edge_threshold})",
            cure="lower the thresholds",
        )
    thresholds = {**circuit.thresholds}
    for name, value in (("pruned_node", node_threshold), ("pruned_edge", edge_threshold)):
        if value:
            thresholds[name] = value
    return replace(circuit, nodes=tuple(nodes), edges=tuple(edges), thresholds=thresholds)
