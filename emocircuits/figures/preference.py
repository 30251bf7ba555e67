"""Preferences: what goes with being liked, and what pushing does."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.emotion_pca import correlation
from emocircuits.figures.style import (
    GRID,
    INK,
    MUTED,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    literal,
    new_figure,
    widths,
)
from emocircuits.limits import PREFERENCE_LABELS

COLUMNS = ("panel", "name", "group", "x", "y", "low", "high")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Left: steering effect against reading, one dot per emotion, random directions as a band; right: Elo by
    category.
    """
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.48)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    emotions, random = table[table.panel == "emotion"], table[table.panel == "random"]
    left.axhline(0, color=GRID, lw=0.8)
    left.axvline(0, color=GRID, lw=0.8)
    if len(random):
        left.axhspan(
            random.y.min(),
            random.y.max(),
            color=NEUTRAL,
            alpha=0.22,
            lw=0,
            label=f"{len(random)} random directions (range)",
        )
    left.errorbar(
        emotions.x,
        emotions.y,
        yerr=[emotions.y - emotions.low, emotions.high - emotions.y],
        fmt="o",
        ms=3,
        lw=0.6,
        color=POSITIVE,
        ecolor=MUTED,
    )
    _names(left, emotions)
    r, low, high = correlation(emotions.x.to_numpy(), emotions.y.to_numpy())
    left.set_title(
        f"r = {r:.2f} [{low:.2f}, {high:.2f}] over {len(emotions)} emotions".replace("-", "−"), fontsize=7.5
    )
    left.set(xlabel="reading of the activities: r with Elo", ylabel="change of Elo when pushed")
    if len(random):
        left.legend(loc="lower right", fontsize=6)
    activities = table[table.panel == "activity"]
    order = activities.groupby("group").y.mean().sort_values().index
    for line, group in enumerate(order):
        rows = activities[activities.group == group]
        right.plot(rows.y, np.full(len(rows), line), "o", ms=3, color=NEGATIVE, alpha=0.6, mew=0)
        right.plot([rows.y.mean()], [line], "|", ms=11, mew=1.6, color=INK)
    right.axvline(0, color=GRID, lw=0.8, zorder=0)
    right.set_yticks(range(len(order)), [literal(group) for group in order])
    right.tick_params(axis="y", length=0)
    right.set_xlabel("Elo (400 points: odds of ten to one)")
    right.set_title(f"{len(activities)} activities by category", fontsize=7.5)
    return figure


def _names(axes: Axes, rows: pd.DataFrame) -> None:
    """Names the outermost emotions, where there is room."""
    x, y = rows.x.to_numpy(), rows.y.to_numpy()
    span = np.array([np.ptp(x) or 1.0, np.ptp(y) or 1.0])
    taken: list[np.ndarray] = []
    for point in np.argsort(-np.hypot(x / span[0], y / span[1]), kind="stable"):
        spot = np.array([x[point], y[point]]) / span
        if len(taken) < PREFERENCE_LABELS and all(
            abs(spot - other)[1] > 0.055 or abs(spot - other)[0] > 0.24 for other in taken
        ):
            taken.append(spot)
            axes.annotate(
                literal(rows["name"].iloc[point]),
                (x[point], y[point]),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=6,
                color=INK,
            )


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`preference_emotions.csv` and `preferences.csv`."""
    emotions = columns(
        require(run.table("preference_emotions.csv"), "preference_emotions.csv", "directions"),
        ("direction", "kind", "r", "delta_elo", "delta_low", "delta_high"),
        "preference_emotions.csv",
    )
    activities = columns(
        require(run.table("preferences.csv"), "preferences.csv", "directions"),
        ("activity", "category", "elo", "standard_error"),
        "preferences.csv",
    )
    pushed = emotions.dropna(subset=["delta_elo"])
    rows = [
        (
            "emotion" if row.kind == "emotion" else "random",
            row.direction,
            row.kind,
            row.r,
            row.delta_elo,
            row.delta_low,
            row.delta_high,
        )
        for row in pushed.itertuples()
    ]
    rows += [
        (
            "activity",
            row.activity,
            row.category,
            float("nan"),
            row.elo,
            row.elo - 1.959964 * row.standard_error,
            row.elo + 1.959964 * row.standard_error,
        )
        for row in activities.itertuples()
    ]
    return {"preference": pd.DataFrame(rows, columns=list(COLUMNS))}


FIGURES.add(
    FigureCard(
        "preference",
        "Preferences: readings against effects",
        "Left: for every steered emotion, how its reading of activities goes with their Elo, and how much "
        "pushing along it on the tokens of half of the activities moves their Elo against the others (95 % "
        "interval over activities). Grey: random directions of the same length. "
        "Right: Elo of all activities.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
