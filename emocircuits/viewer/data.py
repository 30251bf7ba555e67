"""What the viewer is given: columns, not records; texts once; links strongest first. The schema is in
docs/viewer.md.
"""

from collections.abc import Sequence
from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.artifacts.evidence import CircuitEvidence, Control
from emocircuits.limits import PAGE_LINKS, PAGE_NODES
from emocircuits.names import layer_of, parse_node
from emocircuits.viewer.cards import add_cards
from emocircuits.viewer.clusters import emotion_clusters
from emocircuits.viewer.compact import Texts, number_columns, short
from emocircuits.viewer.influence import cumulative, influence
from emocircuits.viewer.layout import Band, grid
from emocircuits.viewer.path_lists import path_lists

FORMAT = 2
KINDS = ("feature", "error", "token", "target", "component")


def viewer_data(graph: CircuitGraph, evidence: CircuitEvidence | None = None) -> dict[str, Any]:
    """Plain values for `mount` of the viewer; feature cards are stored once and shared by all positions.

    Of a circuit beyond the budget (20,000 nodes, 50,000 links) the strongest part is kept, and the page says
    so.

    Args:
        graph: the circuit; its example, where it has one, is the first view.
        evidence: what the run measured around it; panels without data do not appear.
    """
    known = evidence or CircuitEvidence()
    texts, sites, details = Texts(), Texts(), {}
    views = []
    if graph.example is not None:
        views.append(_view(graph.example, "example", "On a prompt", known, texts, sites))
        add_cards(graph.example, details, texts)
    named = ("own", "On a prompt") if graph.tokens and graph.example is None else ("circuit", "All positions")
    views.append(_view(graph, *named, known, texts, sites))
    add_cards(graph, details, texts)
    clusters = emotion_clusters()
    seen = {str(match["emotion"]) for card in details.values() for match in card.get("emotions", ())}
    value = {
        "format": FORMAT,
        "behaviour": graph.behaviour,
        "model": known.model or str(graph.conventions.get("model", "")),
        "emotion": known.emotion,
        "views": views,
        "strings": list(texts.numbers),
        "sites": [{"name": site, "layer": layer_of(site)} for site in sites.numbers],
        "details": details,
        "clusters": {emotion: clusters[emotion] for emotion in sorted(seen) if emotion in clusters},
        "scores": graph.scores,
        "thresholds": graph.thresholds,
        "conventions": graph.conventions,
    }
    if known.dose is not None:
        value["dose"] = known.to_dict()["dose"]
    return value


def _view(
    whole: CircuitGraph, name: str, title: str, evidence: CircuitEvidence, texts: Texts, sites: Texts
) -> dict[str, Any]:
    graph, dropped = _within_budget(whole)
    layout = grid(graph)
    index = {node.id: i for i, node in enumerate(graph.nodes)}
    edges = sorted(graph.edges, key=lambda edge: -abs(edge.weight))
    view = {
        "name": name,
        "title": title,
        "tokens": list(graph.tokens),
        "width": round(layout.width, 4),
        "height": round(layout.height, 4),
        "columns": _bands(layout.columns),
        "rows": _bands(layout.rows),
        "nodes": _nodes(graph, layout.places, texts, sites),
        "links": {
            "source": [index[edge.source] for edge in edges],
            "target": [index[edge.target] for edge in edges],
            **number_columns(
                edges, {"weight": "weight", "low": "ci_low", "high": "ci_high", "verified": "verified"}
            ),
        },
        "paths": path_lists(graph, evidence, index),
        **dropped,
    }
    view["links"].setdefault("weight", [])
    measured = [_control(control, graph.nodes, edges) for control in evidence.controls]
    measured = [control for control in measured if control is not None]
    if measured:
        view["controls"] = measured
    if evidence.corrupt is not None and graph.tokens and len(evidence.corrupt.tokens) == len(graph.tokens):
        view["corrupt"] = {
            "tokens": list(evidence.corrupt.tokens),
            "activations": {
                node: [[short(value, 4) for value in side] for side in sides]
                for node, sides in evidence.corrupt.activations.items()
            },
        }
    return view


def _within_budget(graph: CircuitGraph) -> tuple[CircuitGraph, dict[str, Any]]:
    """The strongest part that a page can show, with what was left out and the sums that shares refer to."""
    if len(graph.nodes) <= PAGE_NODES and len(graph.edges) <= PAGE_LINKS:
        return graph, {}
    fixed = ("token", "target")
    order = sorted(graph.nodes, key=lambda node: (node.kind not in fixed, -abs(node.effect or 0.0)))
    kept = {node.id for node in order[:PAGE_NODES]}
    nodes = tuple(node for node in graph.nodes if node.id in kept)
    inside = (edge for edge in graph.edges if edge.source in kept and edge.target in kept)
    edges = tuple(sorted(inside, key=lambda edge: -abs(edge.weight))[:PAGE_LINKS])
    into, out = dict.fromkeys(kept, 0.0), dict.fromkeys(kept, 0.0)
    for edge in graph.edges:
        if edge.source in kept:
            out[edge.source] += abs(edge.weight)
        if edge.target in kept:
            into[edge.target] += abs(edge.weight)
    dropped = {
        "nodes": [len(nodes), len(graph.nodes)],
        "links": [len(edges), len(graph.edges)],
        "in_total": [short(into[node.id]) for node in nodes],
        "out_total": [short(out[node.id]) for node in nodes],
    }
    smaller = CircuitGraph(graph.behaviour, nodes, edges, tokens=graph.tokens, conventions=graph.conventions)
    return smaller, {"dropped": dropped}


def _nodes(
    graph: CircuitGraph, places: dict[str, tuple[float, float]], texts: Texts, sites: Texts
) -> dict[str, list[Any]]:
    fixed = [node.id for node in graph.nodes if node.kind in ("token", "target")]
    by_influence = cumulative(influence(graph), fixed)
    by_effect = cumulative({node.id: abs(node.effect or 0.0) for node in graph.nodes}, fixed)
    parsed = [parse_node(node.id) for node in graph.nodes]
    columns: dict[str, list[Any]] = {
        "kind": [KINDS.index(node.kind) for node in graph.nodes],
        "site": [-1 if node.site is None else sites(node.site) for node in graph.nodes],
        "feature": [node.feature for node in graph.nodes],
        "position": [node.position for node in graph.nodes],
        "name": [-1 if parts.name is None else texts(parts.name) for parts in parsed],
        "label": [texts(text) if (text := _label(node)) else -1 for node in graph.nodes],
        "x": [round(100 * places[node.id][0]) for node in graph.nodes],
        "y": [round(100 * places[node.id][1]) for node in graph.nodes],
        "influence": [short(by_influence.get(node.id)) for node in graph.nodes],
        "share": [short(by_effect.get(node.id)) for node in graph.nodes],
    }
    numbers = {
        "effect": "effect",
        "low": "ci_low",
        "high": "ci_high",
        "verified": "verified",
        "activation": "activation",
    }
    columns |= number_columns(graph.nodes, numbers)
    return {
        name: values
        for name, values in columns.items()
        if name in ("kind", "x", "y") or any(v not in (None, -1) for v in values)
    }


def _label(node: Node) -> str:
    """The label without the position that the column already says."""
    ending = f" @{node.position}"
    return node.label.removesuffix(ending) if node.position is not None else node.label


def _bands(bands: Sequence[Band]) -> list[dict[str, Any]]:
    return [
        {
            "label": band.label,
            "low": round(band.low, 3),
            "high": round(band.high, 3),
            "used": bool(band.nodes),
        }
        for band in bands
    ]


def _control(control: Control, nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, Any] | None:
    """The control's values in the order of nodes and links, or None where it names no node of this view."""
    effect = [short(control.nodes.get(node.id)) for node in nodes]
    if all(value is None for value in effect):
        return None
    value = {"name": control.name, "kind": control.kind, "note": control.note, "effect": effect}
    weights = {(source, target): weight for source, target, weight in control.edges}
    if weights:
        value["weight"] = [short(weights.get((edge.source, edge.target), 0.0)) for edge in edges]
    return value
