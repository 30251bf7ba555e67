"""What an export format is. Adding one is one file that registers it and one import in the folder's `__init__`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from emocircuits.artifacts.circuit_graph import CircuitGraph
from emocircuits.io.atomic import write_bytes
from emocircuits.registry import Registry


@dataclass(frozen=True)
class Exporter:
    """One format.

    Attributes:
        name: name on the command line.
        suffix: end of the file name, with its dot.
        does: one line for `--help`.
        render: the file's bytes; a pure function of the circuit.
    """

    name: str
    suffix: str
    does: str
    render: Callable[[CircuitGraph], bytes]

    def write(self, graph: CircuitGraph, directory: str | Path, stem: str | None = None) -> Path:
        """Writes `<stem or behaviour><suffix>` in the directory, atomically, and returns its path."""
        path = Path(directory) / f"{stem or graph.behaviour}{self.suffix}"
        write_bytes(path, self.render(graph))
        return path


EXPORTERS: Registry[Exporter] = Registry("export format")


def export_all(graph: CircuitGraph, directory: str | Path, formats: Iterable[str] | None = None) -> list[Path]:
    """Writes a circuit in the named formats (default: all).

    Raises:
        UserError: an unknown format, or a circuit that the format cannot hold.
    """
    members = [EXPORTERS.get(name) for name in (formats if formats is not None else EXPORTERS.names())]
    return [member.write(graph, directory) for member in members]
