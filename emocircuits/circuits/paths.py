"""The strongest paths of a circuit: how much of a source's effect runs along each.

What leaves a node goes on in the proportions of its edges, so along a path u -> v -> … -> t runs

    amount = edge(u, v) * edge(v, w) / effect(v) * …            effect(v) = sum of all edges that leave v

and the amounts of all paths from u to t add up to what u sends to t. Amounts are signed: where what leaves a
node cancels, two paths can each be larger than their sum, and the share of a path (amount / effect of the
source) above 1 or below 0. A path through a node whose edges cancel to less than a hundredth of what they are
worth is left out, because its proportions mean nothing.

The k strongest come from dynamic programming over the circuit in topological order; nothing is enumerated.
"""

import heapq

import networkx as nx

from emocircuits.artifacts.answers import Path
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError

CANCELLED = 0.01


def strongest_paths(circuit: CircuitGraph, source: str, target: str, k: int = 5) -> tuple[Path, ...]:
    """The k paths along which most runs, by absolute amount, strongest first.

    Args:
        circuit: a circuit with edges.
        source, target: node ids.
        k: how many at most.

    Raises:
        UserError: an unknown node, k below 1, or edges that run in a circle.
    """
    for end in (source, target):
        circuit.node(end)
    if k < 1:
        raise UserError(f"the {k} strongest paths", expected="at least 1")
    graph = nx.DiGraph()
    graph.add_nodes_from(node.id for node in circuit.nodes)
    graph.add_weighted_edges_from((edge.source, edge.target, edge.weight) for edge in circuit.edges)
    if not nx.is_directed_acyclic_graph(graph):
        raise UserError("the circuit's edges run in a circle", expected="edges from earlier to later nodes")
    leaves, worth = _leaving(graph)
    # best[v]: up to k partial paths source -> v as (|amount|, amount, nodes), the weakest first
    best: dict[str, list[tuple[float, float, tuple[str, ...]]]] = {source: [(1.0, 1.0, (source,))]}
    for node in nx.topological_sort(graph):
        if node not in best or node == target:
            continue
        if abs(leaves[node]) <= CANCELLED * worth[node]:
            continue
        for _, following, weight in graph.out_edges(node, data="weight"):
            held = best.setdefault(following, [])
            for _, amount, nodes in best[node]:
                moved = amount * weight / leaves[node]
                entry = (abs(moved), moved, (*nodes, following))
                if len(held) < k:
                    heapq.heappush(held, entry)
                elif moved and entry > held[0]:
                    heapq.heapreplace(held, entry)
    found = sorted(best.get(target, []) if target != source else [], reverse=True)
    return tuple(Path(nodes, share * leaves[source], share) for size, share, nodes in found if size > 0)


def _leaving(graph: nx.DiGraph) -> tuple[dict[str, float], dict[str, float]]:
    """Per node the sum of its outgoing weights, and of their absolute values."""
    signed, absolute = {}, {}
    for node in graph:
        weights = [weight for _, _, weight in graph.out_edges(node, data="weight")]
        signed[node], absolute[node] = float(sum(weights)), float(sum(map(abs, weights)))
    return signed, absolute
