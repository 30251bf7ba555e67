"""What the viewer is given: the circuit and its example with the grid's coordinates, links as index arrays."""

from typing import Any

from emocircuits.artifacts.circuit_graph import CircuitGraph, Edge
from emocircuits.artifacts.node_id import format_node, parse_node
from emocircuits.errors import UserError
from emocircuits.export.influence import cumulative, influence
from emocircuits.export.layout import grid

MAX_NODES, MAX_LINKS = 20_000, 50_000
FORMAT = 1


def viewer_data(graph: CircuitGraph) -> dict[str, Any]:
    """Plain values for `mount` of viewer.js; feature details are stored once and shared by all positions.

    Raises:
        UserError: more nodes or links than a page can show.
    """
    details: dict[str, dict[str, Any]] = {}
    views = []
    if graph.example is not None:
        views.append(_view(graph.example, "example", "On a prompt", details))
    named = ("own", "On a prompt") if graph.tokens and graph.example is None else ("circuit", "All positions")
    views.append(_view(graph, *named, details))
    return {
        "format": FORMAT,
        "behaviour": graph.behaviour,
        "views": views,
        "details": details,
        "scores": graph.scores,
        "thresholds": graph.thresholds,
        "conventions": graph.conventions,
    }


def _view(graph: CircuitGraph, name: str, title: str, details: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if len(graph.nodes) > MAX_NODES or len(graph.edges) > MAX_LINKS:
        raise UserError(
            f"the circuit of {graph.behaviour} has {len(graph.nodes)} nodes and {len(graph.edges)} links",
            expected=f"at most {MAX_NODES} nodes and {MAX_LINKS} links in a page",
            cure="raise the circuit's threshold",
        )
    layout = grid(graph)
    fixed = [node.id for node in graph.nodes if node.kind in ("token", "target")]
    by_influence = cumulative(influence(graph), fixed)
    by_effect = cumulative({node.id: abs(node.effect or 0.0) for node in graph.nodes}, fixed)
    nodes = []
    for node in graph.nodes:
        base = format_node(parse_node(node.id).at(None)) if node.kind in ("feature", "error", "component") else node.id
        details[base] = {**details.get(base, {}), **node.details}
        x, y = layout.places[node.id]
        values = {
            "id": node.id,
            "base": base,
            "kind": node.kind,
            "x": round(x, 3),
            "y": round(y, 3),
            "layer": node.layer,
            "position": node.position,
            "label": node.label or _label(node.id),
            "effect": _short(node.effect),
            "low": _short(node.ci_low),
            "high": _short(node.ci_high),
            "verified": _short(node.verified),
            "activation": _short(node.activation),
            "influence": _short(by_influence.get(node.id)),
            "share": _short(by_effect.get(node.id)),
        }
        nodes.append({name: value for name, value in values.items() if value is not None})
    index = {node.id: i for i, node in enumerate(graph.nodes)}
    links = [_link(index[edge.source], index[edge.target], edge) for edge in graph.edges]
    bands = {
        kind: [
            {"label": band.label, "low": round(band.low, 4), "high": round(band.high, 4), "used": bool(band.nodes)}
            for band in found
        ]
        for kind, found in (("columns", layout.columns), ("rows", layout.rows))
    }
    return {
        "name": name,
        "title": title,
        "tokens": list(graph.tokens),
        "width": round(layout.width, 4),
        "height": round(layout.height, 4),
        "nodes": nodes,
        "links": links,
        **bands,
    }


def _label(node_id: str) -> str:
    parts = parse_node(node_id)
    return {
        "feature": f"feature {parts.feature}",
        "error": "SAE error",
        "token": f"token {parts.position}",
        "target": (parts.name or "").replace("_", " "),
        "component": parts.name,
    }[parts.kind]


def _link(source: int, target: int, edge: Edge) -> list[int | float | None]:
    values = [source, target, _short(edge.weight), _short(edge.ci_low), _short(edge.ci_high), _short(edge.verified)]
    while values[-1] is None:
        values.pop()
    return values


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
