"""How much of the effect of steering each set of features carries."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import (
    GRID,
    INK,
    MUTED,
    NEUTRAL,
    POSITIVE,
    literal,
    new_figure,
    widths,
)

COLUMNS = ("behaviour", "held", "kind", "features", "mediated", "ci_low", "ci_high", "n")
LABELS = {
    "matched": "carriers of the direction",
    "cosine": "as many, by decoder cosine",
    "significant": "every significant feature",
    "all": "every feature",
}


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel per behaviour: a set on each line with its interval; random sets as dots on the last line."""
    behaviours = list(dict.fromkeys(table.behaviour))
    figure = new_figure(widths(venue)[1], 2.0)
    for number, axes in enumerate(np.atleast_1d(figure.subplots(1, len(behaviours), sharey=True))):
        rows = table[table.behaviour == behaviours[number]]
        _panel(axes, rows)
        axes.set_title(f"{literal(behaviours[number].replace('_', ' '))} (n = {rows.n.max():.0f})")
        axes.set_xlabel("share of the effect that is gone when held")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    named, random = rows[rows.kind != "random"], rows[rows.kind == "random"]
    for bound in (0, 1):
        axes.axvline(bound, color=GRID, lw=0.8, zorder=0)
    y = np.arange(len(named))
    spread = [named.mediated - named.ci_low, named.ci_high - named.mediated]
    axes.errorbar(named.mediated, y, xerr=np.maximum(spread, 0), fmt="none", ecolor=MUTED, lw=0.9)
    colours = [POSITIVE if kind == "matched" else INK for kind in named.kind]
    axes.scatter(named.mediated, y, c=colours, s=18, zorder=3)
    labels = [f"{LABELS.get(row.kind, literal(row.held))} ({row.features:.0f})" for row in named.itertuples()]
    if len(random):
        axes.plot(
            random.mediated, np.full(len(random), len(named)), "o", ms=3, color=NEUTRAL, alpha=0.7, mew=0
        )
        labels.append(f"{len(random)} random sets ({random.features.max():.0f})")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`mediation.csv`."""
    table = columns(require(run.table("mediation.csv"), "mediation.csv", "steer"), COLUMNS, "mediation.csv")
    return {"mediation": table[list(COLUMNS)]}


FIGURES.add(
    FigureCard(
        "mediation",
        "Which features carry the effect of steering",
        "Share of the effect of pushing along the emotion that is gone when a set of features is held at "
        "its unsteered values at the steering site and all later ones, with 95 % bootstrap intervals over "
        "prompts; in brackets how many features at each site. Random sets fire as often as the carriers.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
