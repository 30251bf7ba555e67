"""The circuit as a self-contained interactive page."""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.viewer.page import page


def render(graph: CircuitGraph, evidence: CircuitEvidence | None = None) -> bytes:
    """The page as bytes."""
    return page(graph, evidence).encode()


EXPORTERS.add(Exporter("html", "self-contained interactive page", ".html", render, shows_evidence=True))
