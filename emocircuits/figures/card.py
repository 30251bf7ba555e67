"""What a figure is: a pure function from a tidy table to a matplotlib Figure, and where a run keeps that
table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.errors import UserError
from emocircuits.registry import Registry

T = TypeVar("T")


class Missing(UserError):
    """A run does not hold what a figure needs."""


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
    load: Callable[[RunFiles], dict[str, pd.DataFrame]]
    optional: bool = False


FIGURES: Registry[FigureCard] = Registry("figure")
