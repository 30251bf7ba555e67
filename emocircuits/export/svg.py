"""The circuit as a vector picture for papers: the viewer's grid, at most 40 nodes."""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.limits import PICTURE_NODES
from emocircuits.viewer.strongest import strongest_part


def draw(graph: CircuitGraph, kind: str) -> bytes:
    """The picture as `svg` or `pdf`, with text as text; equal circuits are equal bytes."""
    # matplotlib is imported here: the other formats must not pay for it.
    from emocircuits.figures.circuit_diagram import draw_graph
    from emocircuits.figures.style import picture, style

    with style():
        figure = draw_graph(strongest_part(graph))
    return picture(figure, kind)


def render(graph: CircuitGraph) -> bytes:
    """SVG."""
    return draw(graph, "svg")


EXPORTERS.add(Exporter("svg", f"vector picture of the {PICTURE_NODES} strongest nodes", ".svg", render))
