"""What an export format is. Adding one is one file that registers it and one import in the folder's
`__init__`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.errors import UserError
from emocircuits.io.atomic import write_bytes
from emocircuits.registry import Registry


@dataclass(frozen=True)
class Exporter:
    """One format.

    Attributes:
        name: name on the command line.
        summary: one line for the documentation.
        suffix: end of the file name, with its dot.
        render: the file's bytes; a pure function of the circuit (and of the evidence, where the format shows
            it).
        shows_evidence: whether `render` takes a `CircuitEvidence` after the circuit.
    """

    name: str
    summary: str
    suffix: str
    render: Callable[..., bytes]
    shows_evidence: bool = False

    def data(self, graph: CircuitGraph, evidence: CircuitEvidence | None = None) -> bytes:
        """The file's bytes; evidence is left out where the format has no place for it."""
        return self.render(graph, evidence) if self.shows_evidence else self.render(graph)

    def write(
        self, graph: CircuitGraph, directory: str | Path, evidence: CircuitEvidence | None = None
    ) -> Path:
        """Writes `<behaviour><suffix>` in the directory, atomically, and returns its path."""
        path = Path(directory) / f"{file_stem(graph.behaviour)}{self.suffix}"
        write_bytes(path, self.data(graph, evidence))
        return path


@dataclass(frozen=True)
class Exported:
    """What `export_all` did: the files, and a line for every format that cannot hold the circuit."""

    paths: tuple[Path, ...]
    refused: tuple[str, ...] = ()


EXPORTERS: Registry[Exporter] = Registry("export format")


def export_all(
    graph: CircuitGraph,
    directory: str | Path,
    formats: Iterable[str] | None = None,
    evidence: CircuitEvidence | None = None,
) -> Exported:
    """Writes a circuit in the named formats, or in every format that can hold it.

    Args:
        graph: the circuit.
        directory: where the files go.
        formats: names; None takes all, and one that cannot hold this circuit is no error then.
        evidence: what the run measured around the circuit.

    Raises:
        UserError: an unknown format, or a circuit that a named format cannot hold.
    """
    if formats is not None:
        members = [EXPORTERS.get(name) for name in formats]
        return Exported(tuple(member.write(graph, directory, evidence) for member in members))
    paths, refused = [], []
    for member in EXPORTERS:
        try:
            paths.append(member.write(graph, directory, evidence))
        except UserError as error:
            refused.append(f"no {member.name} file of {graph.behaviour}: {error}")
    return Exported(tuple(paths), tuple(refused))


def file_stem(behaviour: str) -> str:
    """A behaviour's name as the stem of a file name: no separator, no leading dot, never empty."""
    return re.sub(r"[^\w.-]+|^\.+", "-", behaviour).strip("-")[:100] or "circuit"
