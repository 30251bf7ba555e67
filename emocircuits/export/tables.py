"""CSV of nodes and of links, for pandas, R and spreadsheets; text is sanitised, missing values are empty
cells.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.sanitise import sanitise
from emocircuits.viewer.clusters import emotion_clusters
from emocircuits.viewer.layout import grid
from emocircuits.viewer.path_shares import emotions_of

NODE_COLUMNS = (
    "id", "kind", "layer", "site", "feature", "position", "token", "label", "effect", "ci_low", "ci_high",
    "verified", "activation", "emotion", "q_value", "cluster", "x", "y",
)  # fmt: skip
LINK_COLUMNS = ("source", "target", "weight", "ci_low", "ci_high", "verified")


def nodes(graph: CircuitGraph) -> bytes:
    """One line per node; `emotion` is its surest significant match, `x` and `y` its place on the grid."""
    places, clusters = grid(graph).places, emotion_clusters()
    lines = []
    for node in graph.nodes:
        best = next(iter(emotions_of(node)), None)
        q_value = next(
            (match["q_value"] for match in node.details.get("emotions", ()) if match["emotion"] == best), None
        )
        token = graph.tokens[node.position] if graph.tokens and node.position is not None else None
        ends = (
            token,
            node.label or None,
            node.effect,
            node.ci_low,
            node.ci_high,
            node.verified,
            node.activation,
        )
        head = (node.id, node.kind, node.layer, node.site, node.feature, node.position)
        lines.append((*head, *ends, best, q_value, clusters.get(best or ""), *places[node.id]))
    return _csv(NODE_COLUMNS, lines)


def links(graph: CircuitGraph) -> bytes:
    """One line per link."""
    return _csv(LINK_COLUMNS, ([getattr(edge, name) for name in LINK_COLUMNS] for edge in graph.edges))


def _csv(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([sanitise(value) for value in line] for line in lines)
    return text.getvalue().encode()


EXPORTERS.add(Exporter("nodes-csv", "table of the nodes", ".nodes.csv", nodes))
EXPORTERS.add(Exporter("links-csv", "table of the links", ".links.csv", links))
