"""GraphML for yEd, Cytoscape, igraph and networkx."""

import io

import networkx as nx

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.sanitise import sanitise_graph
from emocircuits.viewer.layout import grid


def render(graph: CircuitGraph) -> bytes:
    """GraphML text; nodes carry `x` and `y` of the grid layout, lists and dicts are JSON text."""
    source = graph.to_networkx()
    for name, (x, y) in grid(graph).places.items():
        source.nodes[name].update(x=x, y=y)
    buffer = io.BytesIO()
    nx.write_graphml_xml(sanitise_graph(source), buffer, named_key_ids=True)
    return buffer.getvalue()


EXPORTERS.add(Exporter("graphml", "GraphML for yEd, Cytoscape, igraph, networkx", ".graphml", render))
