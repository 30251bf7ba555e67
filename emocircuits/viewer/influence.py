"""Influence of every node on the metric, as attribution-graph viewers define it, and shares of |effect|."""

from collections.abc import Iterable

import networkx as nx

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError


def influence(graph: CircuitGraph) -> dict[str, float]:
    """Raw influence: the share of the metric's input that passes through each node.

    With N[target, source] = |weight| / sum of |weight| into the target and w = 1 on each target node, I = wN
    + wN² + …; on a graph without cycles that is one pass from the metric down: I[s] = Σ_t (w[t] + I[t]) N[t,
    s]. (circuit-tracer `graph.py`; Neuronpedia uses the same sum.)

    Raises:
        UserError: the links form a cycle.
    """
    links = nx.DiGraph()
    links.add_nodes_from(node.id for node in graph.nodes)
    links.add_weighted_edges_from((edge.source, edge.target, abs(edge.weight)) for edge in graph.edges)
    try:
        order = list(nx.topological_sort(links))
    except nx.NetworkXUnfeasible as error:
        raise UserError(
            f"the links of the circuit of {graph.behaviour} form a cycle", expected="links that go forward"
        ) from error
    targets = {node.id for node in graph.nodes if node.kind == "target"}
    influences = {node.id: 0.0 for node in graph.nodes}
    for name in reversed(order):
        total = sum(data["weight"] for *_, data in links.in_edges(name, data=True))
        passed = influences[name] + (1.0 if name in targets else 0.0)
        if total > 0 and passed > 0:
            for source, _, data in links.in_edges(name, data=True):
                influences[source] += passed * data["weight"] / total
    return influences


def cumulative(scores: dict[str, float], skip: Iterable[str] = ()) -> dict[str, float]:
    """Cumulative share: nodes sorted by score, strongest first; small = important, 1 = the last. Ties keep
    their order.
    """
    left_out = set(skip)
    ordered = sorted((name for name in scores if name not in left_out), key=lambda name: -scores[name])
    total = sum(scores[name] for name in ordered)
    running, shares = 0.0, {}
    for name in ordered:
        running += scores[name]
        shares[name] = min(1.0, running / total) if total > 0 else 1.0
    return shares
