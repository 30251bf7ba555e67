"""The circuit as a vector picture for papers: the viewer's grid, at most 40 nodes."""

from dataclasses import replace

from emocircuits.artifacts.circuit_graph import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter

MAX_NODES = 40


def strongest(graph: CircuitGraph, limit: int = MAX_NODES) -> CircuitGraph:
    """The circuit with only its `limit` strongest nodes (metric and tokens with a kept link always stay)."""
    if len(graph.nodes) <= limit:
        return graph
    ordered = sorted(graph.nodes, key=lambda node: (node.kind != "target", -abs(node.effect or 0.0)))
    kept = {node.id for node in ordered[:limit]}
    return replace(
        graph,
        nodes=tuple(node for node in graph.nodes if node.id in kept),
        edges=tuple(edge for edge in graph.edges if edge.source in kept and edge.target in kept),
        example=None,
        thresholds={**graph.thresholds, "shown_nodes": limit},
    )


def draw(graph: CircuitGraph, kind: str) -> bytes:
    """The picture as `svg` or `pdf`, with text as text; equal circuits are equal bytes."""
    # matplotlib is imported here: the other formats must not pay for it.
    from emocircuits.export.figures.circuit_diagram import draw_graph
    from emocircuits.export.figures.style import picture, style

    with style():
        figure = draw_graph(strongest(graph))
    return picture(figure, kind)


def render(graph: CircuitGraph) -> bytes:
    """SVG."""
    return draw(graph, "svg")


EXPORTERS.register(
    "svg", Exporter("svg", ".svg", f"vector picture of the {MAX_NODES} strongest nodes", render)
)
