"""The package's own JSON: everything the circuit holds; `CircuitGraph.load` reads it."""

import json

from emocircuits.artifacts.circuit import SCHEMA, VERSION, CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter


def render(graph: CircuitGraph) -> bytes:
    """The same document that `CircuitGraph.save` writes."""
    value = {"schema": SCHEMA, "schema_version": VERSION, **graph.to_dict()}
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


EXPORTERS.add(Exporter("json", "everything the circuit holds, for emocircuits itself", ".json", render))
