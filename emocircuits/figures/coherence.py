"""Whether a push breaks the model: perplexity of neutral text and repetition, over strength."""

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import (
    GRID,
    LINES,
    MARKERS,
    NEUTRAL,
    SERIES,
    literal,
    new_figure,
    widths,
)

COLUMNS = ("measure", "direction", "kind", "strength", "value")
MEASURES = {
    "perplexity": "perplexity of neutral text",
    "repetition": "share of repeated runs of three tokens",
}


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel per measure: emotions as lines, random directions in grey."""
    measures = [name for name in MEASURES if name in set(table.measure)]
    width = widths(venue)[1]
    figure = new_figure(width if len(measures) > 1 else width / 2, 2.3)
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        rows = table[table.measure == measure]
        axes.axvline(0, color=GRID, lw=0.8, zorder=0)
        for number, (_, curve) in enumerate(rows[rows.kind != "emotion"].groupby("direction", sort=False)):
            curve = curve.sort_values("strength")
            axes.plot(
                curve.strength,
                curve.value,
                color=NEUTRAL,
                lw=0.9,
                label="random directions" if number == 0 else None,
            )
        for number, (name, curve) in enumerate(rows[rows.kind == "emotion"].groupby("direction", sort=False)):
            curve = curve.sort_values("strength")
            style = {
                "color": SERIES[number % len(SERIES)],
                "ls": LINES[number % len(LINES)],
                "marker": MARKERS[number % len(MARKERS)],
            }
            axes.plot(curve.strength, curve.value, label=literal(name), **style)
        axes.set(xlabel="strength (share of the residual norm)", ylabel=MEASURES[measure])
        axes.set_ylim(bottom=0)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`coherence.csv`."""
    table = require(run.table("coherence.csv"), "coherence.csv", "steer")
    columns(table, ("direction", "kind", "strength", "perplexity"), "coherence.csv")
    measured = [name for name in MEASURES if name in table]
    long = table.melt(["direction", "kind", "strength"], measured, "measure", "value").dropna(
        subset=["value"]
    )
    return {"coherence": long[list(COLUMNS)].reset_index(drop=True)}


FIGURES.add(
    FigureCard(
        "coherence",
        "Does steering break the model?",
        "Perplexity of neutral text under steering at every position, and how much the model repeats itself "
        "when it continues such text. An effect at a strength where these rise far above the unsteered "
        "model says little about an emotion.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
