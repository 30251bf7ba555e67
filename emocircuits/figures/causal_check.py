"""Does each matched feature act? Effects of pushing it and of taking it out, next to features that fire as
often.
"""

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
from emocircuits.limits import CHECKED_FEATURES, SIGNIFICANCE
from emocircuits.names import short_site

COLUMNS = (
    "emotion",
    "site",
    "what",
    "feature",
    "behaviour",
    "intervention",
    "effect",
    "ci_low",
    "ci_high",
    "random_low",
    "random_high",
    "q_value",
)
TITLES = {"steer": "pushed: slope of the log-odds", "ablate": "taken out: change of the log-odds"}


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One row of panels per behaviour, one column per intervention; grey: the middle 95 % of the null of each
    line.
    """
    behaviours, kinds = (
        list(dict.fromkeys(table.behaviour)),
        [name for name in TITLES if name in set(table.intervention)],
    )
    lines = list(dict.fromkeys(zip(table.site, table.what, table.feature, strict=True)))
    figure = new_figure(widths(venue)[1], len(behaviours) * (0.7 + 0.15 * len(lines)))
    panels = figure.subplots(len(behaviours), len(kinds), squeeze=False, sharey=True)
    for row, behaviour in enumerate(behaviours):
        for column, kind in enumerate(kinds):
            axes = panels[row, column]
            _panel(axes, table[(table.behaviour == behaviour) & (table.intervention == kind)], lines)
            axes.set_title(f"{literal(behaviour.replace('_', ' '))}, {TITLES[kind]}", fontsize=7.5)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, lines: list[tuple]) -> None:
    line_of = {line: number for number, line in enumerate(lines)}
    y = np.array([line_of[line] for line in zip(rows.site, rows.what, rows.feature, strict=True)])
    axes.axvline(0, color=GRID, lw=0.8, zorder=0)
    axes.hlines(y, rows.random_low, rows.random_high, color=NEUTRAL, alpha=0.35, lw=4)
    axes.hlines(y, rows.ci_low, rows.ci_high, color=MUTED, lw=0.9)
    axes.scatter(rows.effect, y, c=np.where(rows.q_value <= SIGNIFICANCE, POSITIVE, INK), s=12, zorder=3)
    labels = [
        f"{short_site(site)} {what if what != 'feature' else int(feature)}" for site, what, feature in lines
    ]
    axes.set_yticks(range(len(lines)), labels, fontsize=6)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`causal.csv`: the first emotion in it; of its features those with the largest effects."""
    table = columns(require(run.table("causal.csv"), "causal.csv", "steer"), COLUMNS, "causal.csv")
    table = table[table.emotion == table.emotion.iloc[0]]
    scaled = table.effect.abs() / table.groupby(["behaviour", "intervention"]).effect.transform(
        lambda values: values.abs().max()
    )
    size = (
        scaled.fillna(0)
        .groupby([table.site, table.feature])
        .max()[lambda values: values.index.get_level_values("feature") >= 0]
    )
    listed = set(size.nlargest(CHECKED_FEATURES).index)
    shown = [
        what != "feature" or (site, feature) in listed
        for site, what, feature in zip(table.site, table.what, table.feature, strict=True)
    ]
    return {"causal_check": table[shown][list(COLUMNS)].reset_index(drop=True)}


FIGURES.add(
    FigureCard(
        "causal_check",
        "Do the matched features act?",
        "Every kept match of the emotion, all carriers of its direction together, and the direction "
        "itself: pushed on prompts without pressure (slope per unit of strength), taken out on prompts in "
        "desperate circumstances. Thin: 95 % intervals over prompts; grey: 95 % of features that fire as "
        f"often (of random directions for the direction); orange: q ≤ {SIGNIFICANCE}. At most "
        f"{CHECKED_FEATURES} features, those with the largest effects.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
