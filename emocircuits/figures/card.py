"""What a figure is: a pure function from a tidy table to a matplotlib Figure, and where a run keeps that
table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.io.documents import read_json
from emocircuits.provenance import sha256_file
from emocircuits.registry import Registry

T = TypeVar("T")


class Missing(UserError):
    """A run does not hold what a figure needs."""


@dataclass
class RunTables:
    """A run directory read lazily; remembers which files were read and their hashes.

    Attributes:
        directory: the run directory.
        read: file name -> SHA-256 of everything read so far.
    """

    directory: Path
    read: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path | None:
        """The file of that name, noted as read, or None."""
        path = Path(self.directory) / name
        if not path.is_file():
            return None
        if name not in self.read:
            self.read[name] = sha256_file(path)
        return path

    def csv(self, name: str) -> pd.DataFrame | None:
        """A table of the run, or None."""
        path = self.path(name)
        if path is None:
            return None
        try:
            return pd.read_csv(path, keep_default_na=True)
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is no CSV table ({error})", cure="run its stage again") from error

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the run, or None."""
        path = self.path(name)
        return None if path is None else read_json(path)

    def circuits(self) -> dict[str, CircuitGraph]:
        """Circuits by behaviour."""
        names = sorted(path.name for path in Path(self.directory).glob("circuit_*.json"))
        return {name[len("circuit_") : -len(".json")]: CircuitGraph.load(self.path(name)) for name in names}

    def directions(self) -> EmotionDirections | None:
        """The emotion directions, or None."""
        path = self.path("directions.h5")
        return None if path is None else EmotionDirections.load(path)


def require(value: T | None, file: str, stage: str) -> T:
    """The value, or the error that names the file and the stage that writes it.

    Raises:
        Missing: the value is None or empty.
    """
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        raise Missing(f"the run has no {file}", cure=f"run the stage '{stage}' first")
    return value


def columns(table: pd.DataFrame, names: tuple[str, ...], file: str) -> pd.DataFrame:
    """The table, once it has the named columns.

    Raises:
        Missing: a column is absent.
    """
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise Missing(f"{file} has no column {', '.join(absent)}", expected=", ".join(names))
    return table


@dataclass(frozen=True)
class FigureCard:
    """One figure.

    Attributes:
        name: file name and name on the command line.
        title: heading on the contact sheet and in the report.
        summary: what the two say below the picture, in a few sentences.
        columns: columns of the tidy table that `draw` needs.
        draw: (table, venue) -> Figure, without side effects.
        load: run -> {file name: table}; raises `Missing`.
        optional: absent data is no error unless the figure is asked for by name.
    """

    name: str
    title: str
    summary: str
    columns: tuple[str, ...]
    draw: Callable[[pd.DataFrame, str], Figure]
    load: Callable[[RunTables], dict[str, pd.DataFrame]]
    optional: bool = False


FIGURES: Registry[FigureCard] = Registry("figure")
