"""Circuits of a run as files and pages, from the files of the run alone: no model is loaded, nothing is
computed again.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.artifacts.run_evidence import run_circuits
from emocircuits.errors import unknown
from emocircuits.export import EXPORTERS, Exported, export_all
from emocircuits.export.exporter import file_stem
from emocircuits.export.neuronpedia import page_query
from emocircuits.io.atomic import write_bytes

GROUPS = {"csv": ("nodes-csv", "links-csv")}

Circuits = dict[str, tuple[CircuitGraph, CircuitEvidence]]


def format_names(asked: Iterable[str]) -> list[str]:
    """Names of formats from what a person typed: comma-separated, `csv` for both tables, `all` for
    everything.

    Raises:
        UserError: an unknown format.
    """
    names: list[str] = []
    for name in (part.strip() for text in asked for part in text.split(",")):
        if name == "all":
            names += EXPORTERS.names()
        elif name in GROUPS:
            names += GROUPS[name]
        elif name in EXPORTERS:
            names.append(name)
        else:
            raise unknown("export format", name, (*EXPORTERS.names(), *GROUPS, "all"))
    return list(dict.fromkeys(names))


def chosen_circuits(directory: Path, behaviour: str | None) -> Circuits:
    """The circuits of a run, or the one of a behaviour.

    Raises:
        UserError: no circuit, or no such behaviour; the message lists those there are.
    """
    circuits = run_circuits(directory)
    if behaviour is None:
        return circuits
    if behaviour not in circuits:
        raise unknown("behaviour", behaviour, circuits)
    return {behaviour: circuits[behaviour]}


def export_run(
    directory: Path, asked: Iterable[str], behaviour: str | None = None, out: Path | None = None
) -> dict[str, Exported]:
    """Writes circuits of a run in the asked formats.

    Args:
        directory: a run directory, or a circuit file.
        asked: see `format_names`; with `all`, formats that cannot hold a circuit are named and skipped.
        behaviour: only this one.
        out: where the files go (default: `export` in the run directory, or beside the circuit file).

    Raises:
        UserError: an unknown format or behaviour, or a circuit that a named format cannot hold.
    """
    asked = list(asked)
    names = format_names(asked)
    everything = any(part.strip() == "all" for text in asked for part in text.split(","))
    out = out or (directory.parent if directory.is_file() else directory / "export")
    return {
        name: export_all(graph, out, None if everything else names, evidence)
        for name, (graph, evidence) in chosen_circuits(directory, behaviour).items()
    }


def write_pages(directory: Path, behaviour: str | None = None, out: Path | None = None) -> dict[str, Path]:
    """The interactive page of every circuit as a file; a page that is there already and equal is left alone.

    Args:
        directory: a run directory, or a circuit file.
        behaviour: only this one.
        out: where pages go (default: as `export_run`).

    Raises:
        UserError: as `export_run`.
        Failure: the directory cannot be written.
    """
    out = out or (directory.parent if directory.is_file() else directory / "export")
    paths = {}
    for name, data in pages(directory, behaviour).items():
        paths[name] = out / f"{file_stem(name)}.html"
        if not paths[name].is_file() or paths[name].read_bytes() != data:
            write_bytes(paths[name], data)
    return paths


def pages(directory: Path, behaviour: str | None = None) -> dict[str, bytes]:
    """The interactive pages as bytes, by behaviour."""
    exporter = EXPORTERS.get("html")
    return {
        name: exporter.data(graph, evidence)
        for name, (graph, evidence) in chosen_circuits(directory, behaviour).items()
    }


def graph_addresses(exported: Exported) -> list[str]:
    """What to append to the address of a Neuronpedia or circuit-tracer page so that it shows pins and
    supernodes.
    """
    files = [
        path for path in exported.paths if path.name.endswith((".neuronpedia.json", ".circuit-tracer.json"))
    ]
    return [page_query(json.loads(path.read_text(encoding="utf-8"))) for path in files]
