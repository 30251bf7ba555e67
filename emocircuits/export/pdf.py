"""The picture of `svg` as PDF, with embedded fonts that stay text."""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.export.svg import draw
from emocircuits.limits import PICTURE_NODES


def render(graph: CircuitGraph) -> bytes:
    """PDF."""
    return draw(graph, "pdf")


EXPORTERS.add(
    Exporter("pdf", f"the same picture of the {PICTURE_NODES} strongest nodes as PDF", ".pdf", render)
)
