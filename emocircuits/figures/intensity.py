"""Readings over a number that makes things graver."""

import numpy as np
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

COLUMNS = ("panel", "emotion", "step", "value", "ci_low", "ci_high")
FIRST = ("desperate", "afraid", "calm", "happy")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Left: readings of a few emotions over the steps; right: the trend of every emotion, in order, with
    intervals.
    """
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.4)
    left, right = figure.subplots(1, 2)
    steps = table[table.panel == "steps"]
    left.axhline(0, color=GRID, lw=0.8)
    for number, (name, rows) in enumerate(steps.groupby("emotion", sort=False)):
        rows = rows.sort_values("step")
        colour = SERIES[number % len(SERIES)]
        left.fill_between(rows.step, rows.ci_low, rows.ci_high, color=colour, alpha=0.14, lw=0)
        left.plot(
            rows.step,
            rows.value,
            color=colour,
            ls=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            label=literal(name),
        )
    left.set(xlabel="step of the number, towards the graver end", ylabel="reading minus its mean")
    left.legend(loc="best", ncols=2)
    left.set_title("Reading over the number, mean over templates", fontsize=7.5)
    trends = table[table.panel == "trends"].sort_values("value")
    x = np.arange(len(trends))
    right.axhline(0, color=GRID, lw=0.8)
    right.fill_between(x, trends.ci_low, trends.ci_high, color=NEUTRAL, alpha=0.3, lw=0, step="mid")
    right.plot(x, trends.value, color=NEUTRAL, lw=1.2)
    for number, name in enumerate(name for name in FIRST if name in set(trends.emotion)):
        at = int(np.flatnonzero(trends.emotion == name)[0])
        right.plot([at], [trends.value.iloc[at]], marker=MARKERS[number], color=SERIES[number], ms=5)
        right.annotate(
            literal(name),
            (at, trends.value.iloc[at]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=6,
        )
    right.set(xlabel="emotions, by trend", ylabel="Spearman, mean over templates", xticks=[])
    right.set_title("Does the reading follow the number?", fontsize=7.5)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`intensity.csv` and `intensity_trends.csv`."""
    readings = columns(
        require(run.table("intensity.csv"), "intensity.csv", "directions"),
        ("template", "grave", "value", "emotion", "reading"),
        "intensity.csv",
    )
    trends = columns(
        require(run.table("intensity_trends.csv"), "intensity_trends.csv", "directions"),
        ("emotion", "rho", "ci_low", "ci_high"),
        "intensity_trends.csv",
    )
    emotions = list(dict.fromkeys(readings.emotion))
    names = [name for name in FIRST if name in emotions] or emotions[:4]
    own = readings[readings.emotion.isin(names)].copy()
    own["signed"] = own.value.where(own.grave == "high", -own.value)
    own["step"] = own.groupby(["template", "emotion"]).signed.rank(method="dense")
    own["reading"] -= own.groupby(["template", "emotion"]).reading.transform("mean")
    spread = own.groupby(["emotion", "step"]).reading.agg(["mean", "sem"]).reset_index()
    half = 1.959964 * spread["sem"].fillna(0)
    steps = pd.DataFrame(
        {
            "panel": "steps",
            "emotion": spread.emotion,
            "step": spread.step,
            "value": spread["mean"],
            "ci_low": spread["mean"] - half,
            "ci_high": spread["mean"] + half,
        }
    )
    steps["order"] = steps.emotion.map({name: number for number, name in enumerate(names)})
    rows = trends.rename(columns={"rho": "value"}).assign(panel="trends", step=np.nan)
    return {
        "intensity": pd.concat([steps.sort_values(["order", "step"]), rows])[list(COLUMNS)].reset_index(
            drop=True
        )
    }


FIGURES.add(
    FigureCard(
        "intensity",
        "Does the reading follow a number?",
        "Sentences whose number says how grave things are (a dose, hours without food). Left: reading at "
        "the end of the sentence, 95 % interval over templates. Right: rank correlation of reading and "
        "gravity for every emotion, 95 % bootstrap interval over templates.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
