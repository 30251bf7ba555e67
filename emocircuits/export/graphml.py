"""GraphML for yEd, Cytoscape, igraph and networkx."""

import io

import networkx as nx

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.sanitise import plain_graph
from emocircuits.viewer.layout import grid


def render(graph: CircuitGraph) -> bytes:
    """GraphML text; nodes carry `x` and `y` of the grid layout, lists and dicts are JSON text."""
    source = graph.to_networkx()
    for name, place in grid(graph).places.items():
        source.nodes[name].update(x=place[0], y=place[1])
    buffer = io.BytesIO()
    nx.write_graphml_xml(plain_graph(source), buffer, named_key_ids=True)
    return buffer.getvalue()


EXPORTERS.add(Exporter("graphml", "GraphML for yEd, Cytoscape, igraph, networkx", ".graphml", render))
