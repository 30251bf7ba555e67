"""Along which routes a push reaches the behaviour's tokens: straight into the logits, or through attention
and MLPs.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, require
from emocircuits.figures.style import (
    GRID,
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    literal,
    new_figure,
    widths,
)

COLUMNS = ("behaviour", "direction", "kind", "split", "part", "amount", "ci_low", "ci_high", "share")
ROUTES = ("whole", "direct", "attention values", "attention queries and keys", "MLPs", "remainder")
REAL = {"only the logits see the push": "direct"}
MARKS = {"emotion": ("o", 26, POSITIVE), "content": ("^", 12, MUTED), "random": (".", 12, MUTED)}


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel per behaviour: rows are routes; emotions with intervals, controls as small marks, the real
    intervention as a ring.
    """
    behaviours, width = list(dict.fromkeys(table.behaviour)), widths(venue)[1]
    routes = [route for route in ROUTES if (table.part == route).any()]
    figure = new_figure(width, 1.0 + 0.34 * len(routes))
    panels = figure.subplots(1, len(behaviours), squeeze=False)[0]
    for number, (axes, name) in enumerate(zip(panels, behaviours, strict=True)):
        rows = table[table.behaviour == name]
        emotions = list(dict.fromkeys(rows[rows.kind == "emotion"].direction))
        axes.axvline(0, color=GRID, lw=0.8, zorder=0)
        labelled: set[str] = set()
        for direction, group in rows.groupby("direction", sort=False):
            kind = group.kind.iloc[0]
            if kind == "emotion":
                _emotion(axes, group, routes, direction, emotions.index(direction))
            else:
                _control(axes, group, routes, "" if kind in labelled else kind)
                labelled.add(kind)
        axes.set_yticks(np.arange(len(routes)), routes if number == 0 else [])
        axes.set(ylim=(len(routes) - 0.4, -0.6), xlabel="change of the logit difference")
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(literal(name.replace("_", " ")))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), handletextpad=0.2, columnspacing=1.2
    )
    return figure


def _emotion(axes: Axes, rows: pd.DataFrame, routes: list[str], name: str, number: int) -> None:
    """Marks with intervals, and rings where only one route saw the push."""
    marker, size, _ = MARKS["emotion"]
    colour, shift = (POSITIVE, NEGATIVE, INK)[min(number, 2)], -0.22 + 0.2 * number
    marks = rows[rows.split.isin(["routes", "whole"])]
    y = [routes.index(part) + shift for part in marks.part]
    axes.hlines(y, marks.ci_low, marks.ci_high, color=colour, lw=1.2, zorder=2, capstyle="projecting")
    axes.scatter(marks.amount, y, s=size, marker=marker, color=colour, linewidths=0, zorder=3, label=name)
    real = rows[(rows.split == "real") & rows.part.isin(list(REAL))]
    y = [routes.index(REAL[part]) + shift for part in real.part]
    label = "real intervention" if number == 0 else None
    style = {"s": 60, "facecolors": "none", "edgecolors": colour, "linewidths": 0.9, "zorder": 4}
    axes.scatter(real.amount, y, label=label, **style)


def _control(axes: Axes, rows: pd.DataFrame, routes: list[str], label: str) -> None:
    kind = rows.kind.iloc[0]
    marker, size, colour = MARKS[kind]
    marks = rows[rows.split.isin(["routes", "whole"])]
    y = [routes.index(part) + 0.3 for part in marks.part]
    axes.scatter(
        marks.amount, y, s=size, marker=marker, color=colour, linewidths=0, alpha=0.7, zorder=3, label=label
    )


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """The rows of `trace.csv` by route, with the real interventions."""
    table = require(run.table("trace.csv"), "trace.csv", "circuit")
    kept = table[table["split"].isin(["routes", "whole", "real"])]
    return {"trace": kept[list(COLUMNS)].reset_index(drop=True)}


FIGURES.add(
    FigureCard(
        "trace",
        "Token push or deeper computation",
        "What a push along an emotion direction changes in the behaviour's logit difference, split by what "
        "reads the push: the logits themselves (direct), or attention and MLPs after the site. Bars are "
        "bootstrap intervals over held-out prompts, the ring is the real intervention in which only the "
        "logits see the push; content and random directions of the same norm are the controls.",
        COLUMNS,
        draw,
        load,
    )
)
