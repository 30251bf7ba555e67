"""An export format: a list of links as lines of text, for a shell pipe."""

import tempfile
from pathlib import Path

from emocircuits import EXPORTERS, CircuitGraph, Exporter


def render(graph: CircuitGraph) -> bytes:
    """A pure function of the circuit."""
    return "".join(f"{edge.source}\t{edge.target}\t{edge.weight:.6g}\n" for edge in graph.edges).encode()


EXPORTERS.add(Exporter("lines", "one link per line: source, target, weight", ".links.txt", render))


def example(run: Path) -> None:
    """`emocircuits export RUN --formats lines` writes it; so does this."""
    circuit = CircuitGraph.load(run / "circuit_reward_hacking.json")
    with tempfile.TemporaryDirectory() as folder:
        path = EXPORTERS.get("lines").write(circuit, folder)
        assert path.name == "reward_hacking.links.txt"
        assert len(path.read_text().splitlines()) == len(circuit.edges)
