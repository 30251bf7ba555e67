"""Dose–response of steering, with random, content and shuffled directions of the same norm in the
same panel.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, Missing, columns, require
from emocircuits.figures.style import (
    GRID,
    INK,
    LINES,
    MARKERS,
    MUTED,
    NEUTRAL,
    SERIES,
    literal,
    new_figure,
    widths,
)

COLUMNS = ("behaviour", "direction", "kind", "strength", "value", "ci_low", "ci_high", "n", "measure")
CONTROLS = {"content": (INK, (0, (1, 1.2))), "shuffled": (MUTED, (0, (4, 1.5)))}
FIRST = ("desperate", "calm")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel per behaviour: emotions as lines with intervals, random directions as the band they span."""
    behaviours = list(dict.fromkeys(table.behaviour))
    emotions = sorted(
        set(table[table.kind == "emotion"].direction),
        key=lambda name: (FIRST.index(name) if name in FIRST else 9, name),
    )[: len(SERIES)]
    width = widths(venue)[1]
    per_row = min(len(behaviours), 3)
    lines = -(-len(behaviours) // per_row)
    figure = new_figure(width if per_row > 1 else width * 0.62, (2.45 if per_row > 1 else 2.8) * lines)
    panels = figure.subplots(lines, per_row, squeeze=False, sharex=True)
    for i, axes in enumerate(panels.flat):
        if i >= len(behaviours):
            axes.set_visible(False)
            continue
        _panel(axes, table[table.behaviour == behaviours[i]], emotions)
        n = table[table.behaviour == behaviours[i]].n.max()
        axes.set_title(f"{literal(behaviours[i].replace('_', ' '))} (n = {n:.0f})")
        axes.set_xlabel("strength (share of the residual norm)")
    handles: dict = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(5 if per_row > 1 else 3, len(handles)),
        columnspacing=1.2,
        handlelength=2.4,
    )
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, emotions: list[str]) -> None:
    axes.axvline(0, color=GRID, lw=0.8, zorder=0)
    random = rows[rows.kind == "random"].groupby("strength").value
    if len(random):
        low, high = random.min(), random.max()
        count = rows[rows.kind == "random"].direction.nunique()
        axes.fill_between(
            low.index,
            low,
            high,
            color=NEUTRAL,
            alpha=0.28,
            lw=0,
            label=f"{count} random directions (range)",
            zorder=1,
        )
    for kind, (colour, line) in CONTROLS.items():
        for j, (_, curve) in enumerate(rows[rows.kind == kind].groupby("direction")):
            curve = curve.sort_values("strength")
            axes.plot(
                curve.strength,
                curve.value,
                color=colour,
                ls=line,
                lw=0.7,
                label=f"{kind} directions" if j == 0 else None,
                zorder=2,
            )
    for j, emotion in enumerate(emotions):
        curve = rows[(rows.direction == emotion) & (rows.kind == "emotion")].sort_values("strength")
        if len(curve):
            axes.fill_between(
                curve.strength, curve.ci_low, curve.ci_high, color=SERIES[j], alpha=0.16, lw=0, zorder=3
            )
            axes.plot(
                curve.strength,
                curve.value,
                color=SERIES[j],
                ls=LINES[j],
                marker=MARKERS[j],
                label=literal(emotion),
                zorder=4,
                lw=1.7 if emotion in FIRST else 1.0,
                ms=3.6 if emotion in FIRST else 2.6,
            )
    measure = rows.measure.iloc[0]
    axes.set_ylabel("rate" if measure == "rate" else "logit difference")
    if measure == "rate":
        axes.set_ylim(0, 1)


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`steering.csv`, with `rate` where it was measured and `logit_diff` otherwise."""
    table = require(run.table("steering.csv"), "steering.csv", "steer")
    columns(table, ("direction", "kind", "strength", "behaviour", "ci_low", "ci_high", "n"), "steering.csv")
    measure = next(
        (name for name in ("rate", "logit_diff") if name in table and table[name].notna().any()), None
    )
    if measure is None:
        raise Missing(
            "steering.csv has neither rates nor logit differences", expected="a column rate or logit_diff"
        )
    return {"steering": table.assign(value=table[measure], measure=measure)[list(COLUMNS)]}


FIGURES.add(
    FigureCard(
        "steering",
        "Steering dose–response",
        "Behaviour against the strength of the added direction, with 95 % intervals over prompts. Grey: the "
        "range of random directions of the same norm; thin lines: content and label-shuffled directions. A "
        "causal claim needs the emotion outside all of them.",
        COLUMNS,
        draw,
        load,
    )
)
