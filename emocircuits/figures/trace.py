"""Along which routes a push reaches the behaviour's tokens: straight into the logits, or through attention
and MLPs.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, require
from emocircuits.figures.style import (
    GRID,
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    new_figure,
    plain_label,
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
    for number, (axes, name) in enumerate(
        zip(figure.subplots(1, len(behaviours), squeeze=False)[0], behaviours, strict=True)
    ):
        rows = table[table.behaviour == name]
        emotions = list(dict.fromkeys(rows[rows.kind == "emotion"].direction))
        axes.axvline(0, color=GRID, lw=0.8, zorder=0)
        for direction, group in rows.groupby("direction", sort=False):
            kind = group.kind.iloc[0]
            marker, size, colour = MARKS[kind]
            place = emotions.index(direction) if kind == "emotion" else None
            colour = (POSITIVE, NEGATIVE, INK)[min(place, 2)] if place is not None else colour
            shift = 0.3 if place is None else -0.22 + 0.2 * place
            for row in group[group.split.isin(["routes", "whole"])].itertuples():
                y = routes.index(row.part) + shift
                if place is not None:
                    axes.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=1.2, zorder=2)
                first = row.part == routes[0]
                label = direction if place is not None else {"content": "content", "random": "random"}[kind]
                known = axes.get_legend_handles_labels()[1]
                axes.scatter(
                    row.amount,
                    y,
                    s=size,
                    marker=marker,
                    color=colour,
                    linewidths=0,
                    alpha=1 if place is not None else 0.7,
                    zorder=3,
                    label=label if first and label not in known else None,
                )
            for row in group[group.split == "real"].itertuples():
                if place is not None and row.part in REAL:
                    label = "real intervention" if place == 0 else None
                    axes.scatter(
                        row.amount,
                        routes.index(REAL[row.part]) + shift,
                        s=60,
                        facecolors="none",
                        edgecolors=colour,
                        linewidths=0.9,
                        zorder=4,
                        label=label,
                    )
        axes.set_yticks(np.arange(len(routes)), routes if number == 0 else [])
        axes.set(ylim=(len(routes) - 0.4, -0.6), xlabel="change of the logit difference")
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(plain_label(name.replace("_", " ")))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), handletextpad=0.2, columnspacing=1.2
    )
    return figure


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
        "reads the push: the logits themselves (direct), or attention and MLPs behind the site. Bars are "
        "bootstrap intervals over held-out prompts, the ring is the real intervention in which only the "
        "logits see the push; content and random directions of the same norm are the controls.",
        COLUMNS,
        draw,
        load,
    )
)
