"""Where a metric's input comes from: paths with the largest shares, from an emotion's features or the words
of the prompt.

A link's fraction is |weight| over the sum of |weight| into its target, and a path's share is the product of
its links' fractions: the part of the metric's input that arrives along exactly these links. Over all paths
from one node the shares add up to that node's influence (`emocircuits.viewer.influence`), over all paths from
nodes without inputs to 1; no share leaves [0, 1], also where links of both signs nearly cancel.
(`emocircuits.circuits.paths` goes the other way: it follows what a node sends, in signed amounts of the
metric.) The sign of a path is that of its effect on the metric. Every weight is already an effect on the
metric, so from the second link on a link turns the sign only where it disagrees with the effect of the node
it leaves.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import networkx as nx

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.errors import UserError
from emocircuits.limits import SIGNIFICANCE


@dataclass(frozen=True)
class FoundPath:
    """Node ids from source to target, the share of the target's input, and the sign of the effect
    (1 or -1).
    """

    nodes: tuple[str, ...]
    share: float
    sign: int = 1


def fractions(graph: CircuitGraph) -> nx.DiGraph:
    """The circuit's links with `fraction` (of |weight| into the target) and `weight`.

    Raises:
        UserError: the links form a cycle.
    """
    links = nx.DiGraph()
    links.add_nodes_from(node.id for node in graph.nodes)
    links.add_weighted_edges_from((edge.source, edge.target, edge.weight) for edge in graph.edges)
    if not nx.is_directed_acyclic_graph(links):
        raise UserError(
            f"the links of the circuit of {graph.behaviour} form a cycle", expected="links that go forward"
        )
    total = {node: sum(abs(data["weight"]) for *_, data in links.in_edges(node, data=True)) for node in links}
    for _, target, data in links.edges(data=True):
        data["fraction"] = abs(data["weight"]) / total[target] if total[target] else 0.0
    return links


def largest_shares(
    links: nx.DiGraph,
    sources: Iterable[str],
    target: str,
    *,
    k: int = 8,
    effects: dict[str, float | None] | None = None,
) -> list[FoundPath]:
    """The k paths of largest share from any source to the target, strongest first.

    Every node hands its k strongest continuations to the nodes before it: k · links steps on a graph without
    cycles.

    Args:
        links: what `fractions` gives.
        sources: node ids.
        target: node id.
        k: at most this many.
        effects: node id -> effect, for the signs; without it, or where an effect is missing, a node counts as
            positive.
    """
    inside = nx.ancestors(links, target) | {target}
    best: dict[str, list[tuple[float, tuple[str, ...], int]]] = {target: [(1.0, (target,), 1)]}
    for node in reversed(list(nx.topological_sort(links.subgraph(inside)))):
        if node == target:
            continue
        own = -1 if ((effects or {}).get(node) or 0.0) < 0 else 1
        candidates = []
        for _, after, data in links.out_edges(node, data=True):
            turn = (-1 if data["weight"] < 0 else 1) * own
            candidates += [
                (share * data["fraction"], (node, *path), sign * turn)
                for share, path, sign in best.get(after, ())
            ]
        best[node] = heapq.nlargest(k, candidates, key=lambda item: item[0])
    starts = [
        (share, path, sign, path[0])
        for source in sources
        if source != target
        for share, path, sign in best.get(source, ())
    ]
    first = {source: -1 if ((effects or {}).get(source) or 0.0) < 0 else 1 for *_, source in starts}
    chosen = heapq.nlargest(k, starts, key=lambda item: item[0])
    return [FoundPath(path, share, sign * first[source]) for share, path, sign, source in chosen if share > 0]


def reach(links: nx.DiGraph, sources: Iterable[str], target: str) -> float:
    """The share of the target's input that passes through at least one source; nothing is counted twice."""
    stops = set(sources)
    if target in stops:
        return 1.0
    inside = nx.ancestors(links, target) | {target}
    mass = dict.fromkeys(inside, 0.0) | {target: 1.0}
    for node in reversed(list(nx.topological_sort(links.subgraph(inside)))):
        if node not in stops:
            for before, _, data in links.in_edges(node, data=True):
                mass[before] += mass[node] * data["fraction"]
    return min(1.0, sum((mass[node] for node in stops if node in mass), 0.0))


def emotions_of(node: Node) -> list[str]:
    """Emotions that a feature matches significantly, the surest first."""
    matches = [
        match
        for match in node.details.get("emotions", ())
        if (match.get("q_value") if match.get("q_value") is not None else 1.0) <= SIGNIFICANCE
    ]
    return [str(match["emotion"]) for match in sorted(matches, key=lambda match: match["q_value"])]


def starting_points(graph: CircuitGraph) -> dict[str, Sequence[str]]:
    """Where paths can start: "" for the words of the prompt (or the nodes without inputs), then every matched
    emotion.
    """
    words = [node.id for node in graph.nodes if node.kind == "token"]
    if not words:
        fed = {edge.target for edge in graph.edges}
        words = [node.id for node in graph.nodes if node.kind != "target" and node.id not in fed]
    starts: dict[str, list[str]] = {"": words}
    for node in graph.nodes:
        if node.kind == "feature":
            for emotion in emotions_of(node):
                starts.setdefault(emotion, []).append(node.id)
    return starts
