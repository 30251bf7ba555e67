"""Circuits as files for other programs and for people; each import below is one format."""

from emocircuits.export import dot, gexf, graphml, html, json_graph, neuronpedia, pdf, svg, tables
from emocircuits.export.exporter import EXPORTERS, Exported, Exporter, export_all

__all__ = [
    "EXPORTERS",
    "Exported",
    "Exporter",
    "dot",
    "export_all",
    "gexf",
    "graphml",
    "html",
    "json_graph",
    "neuronpedia",
    "pdf",
    "svg",
    "tables",
]
