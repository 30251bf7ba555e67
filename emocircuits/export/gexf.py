"""GEXF for Gephi: opens with the grid layout, colours by sign and sizes by effect."""

import re

import networkx as nx

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.sanitise import sanitise_graph
from emocircuits.viewer.layout import grid

SCALE = 60.0  # Gephi units per grid unit
POSITIVE, NEGATIVE, NEUTRAL = (213, 94, 0), (0, 114, 178), (136, 136, 136)  # Okabe–Ito vermillion and blue


def render(graph: CircuitGraph) -> bytes:
    """GEXF 1.2 text with `viz` positions; the date of networkx is left out: equal circuits, equal bytes."""
    plain = sanitise_graph(graph.to_networkx())
    places = grid(graph).places
    largest = max((abs(node.effect or 0.0) for node in graph.nodes), default=0.0) or 1.0
    for node in graph.nodes:
        x, y = places[node.id]
        red, green, blue = _colour(node)
        plain.nodes[node.id]["viz"] = {
            "position": {"x": x * SCALE, "y": y * SCALE, "z": 0.0},
            "size": 8.0 + 16.0 * abs(node.effect or 0.0) / largest,
            "color": {"r": red, "g": green, "b": blue, "a": 1.0},
        }
        plain.nodes[node.id].setdefault("label", node.id)
    text = "\n".join(nx.generate_gexf(plain)) + "\n"
    return re.sub(r' lastmodifieddate="[^"]*"', "", text).encode()


def _colour(node: Node) -> tuple[int, int, int]:
    return NEUTRAL if not node.effect else POSITIVE if node.effect > 0 else NEGATIVE


EXPORTERS.add(Exporter("gexf", "GEXF for Gephi, with the grid layout", ".gexf", render))
