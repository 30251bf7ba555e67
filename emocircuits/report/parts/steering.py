"""Dose–response: every strength, the emotions next to their controls."""

from typing import Any

import pandas as pd

from emocircuits.report.contrast import CONTROLS, steered_column
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, estimate, table
from emocircuits.report.text import number, words

TITLE = "Steering"


def build(run: RunData, pictures: Pictures) -> str:
    """The picture, and a table per behaviour."""
    tables = "".join(
        f"<h3>{words(name)}</h3>{steering_table(run, name)}" for name in dict.fromkeys(run.steering.behaviour)
    )
    return (
        "<p>A direction is added to the residual stream at one site, at a share of its mean norm, on "
        f"held-out prompts.</p>{pictures['steering']}{tables}"
    )


def steering_table(run: RunData, behaviour: str) -> str:
    """Every strength: emotions with their intervals, controls with their ranges."""
    rows = run.steering[run.steering.behaviour == behaviour]
    column = steered_column(rows)
    emotions = list(dict.fromkeys(rows[rows.kind == "emotion"].direction))
    kinds = [kind for kind in CONTROLS if (rows.kind == kind).any()]
    lines = []
    for strength, group in rows.groupby("strength"):
        emotional = group[group.kind == "emotion"]
        line: list[Any] = [float(strength)]
        line += [_estimate(emotional[emotional.direction == name], column) for name in emotions]
        line += [_range(group[group.kind == kind][column]) for kind in kinds]
        lines.append(line)
    counts = [f"{rows[rows.kind == kind].direction.nunique()} {kind}" for kind in kinds]
    return table(["strength", *emotions, *counts], lines)


def _estimate(rows: pd.DataFrame, column: str) -> Cell | None:
    if not len(rows):
        return None
    row = rows.iloc[0]
    return estimate(row[column], row.ci_low, row.ci_high)


def _range(values: pd.Series) -> Cell | None:
    if not len(values):
        return None
    return Cell(f"{number(values.min())} to {number(values.max())}", float(values.max()))
