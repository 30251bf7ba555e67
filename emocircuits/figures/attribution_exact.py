"""Attributed against exact effects: the honesty check of attribution patching."""

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
    literal,
    new_figure,
    widths,
)

COLUMNS = ("behaviour", "node", "predicted", "exact", "pearson", "slope", "sign_agreement")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One square panel per behaviour with the line of equality; circles are features, diamonds SAE errors."""
    behaviours = list(dict.fromkeys(table.behaviour))
    width = widths(venue)[1]
    figure = new_figure(
        width if len(behaviours) > 1 else width * 0.55, 0.3 + (width / max(2, len(behaviours))) * 0.92
    )
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(behaviours))), behaviours, strict=True):
        rows = table[table.behaviour == name]
        x, y = rows.predicted.to_numpy(float), rows.exact.to_numpy(float)
        low, high = min(x.min(), y.min(), 0.0), max(x.max(), y.max(), 0.0)
        pad = 0.06 * ((high - low) or 1.0)
        span = (low - pad, high + pad)
        axes.plot(span, span, color=MUTED, lw=0.8, ls="--", zorder=1)
        axes.axhline(0, color=GRID, lw=0.7, zorder=0)
        axes.axvline(0, color=GRID, lw=0.7, zorder=0)
        error = rows.node.str.startswith("error/").to_numpy()
        for mask, marker, colour, label in (
            (~error, "o", POSITIVE, "SAE features"),
            (error, "D", NEGATIVE, "SAE errors"),
        ):
            if mask.any():
                axes.scatter(
                    x[mask],
                    y[mask],
                    s=14,
                    marker=marker,
                    color=colour,
                    alpha=0.75,
                    edgecolors="white",
                    linewidths=0.4,
                    label=label,
                    zorder=2,
                )
        first = rows.iloc[0]
        words = [
            ("r", first.pearson, "{:.3f}"),
            ("slope", first.slope, "{:.2f}"),
            ("same sign", first.sign_agreement, "{:.0%}"),
        ]
        said = [
            f"{name} = {form.format(value)}"
            for name, value, form in words
            if value is not None and np.isfinite(value)
        ]
        axes.text(
            0.04,
            0.96,
            "\n".join([*said, f"n = {len(x)}"]),
            transform=axes.transAxes,
            va="top",
            fontsize=7,
            color=INK,
            linespacing=1.35,
        )
        axes.set(
            xlim=span,
            ylim=span,
            xlabel="attributed effect",
            ylabel="exact effect (intervention)",
            aspect="equal",
        )
        axes.locator_params(nbins=5)
        axes.set_title(literal(name.replace("_", " ")))
        axes.legend(loc="lower right", handletextpad=0.2, borderaxespad=0.2)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """The points of `scores.json` with the correlation, slope (exact on attributed) and share of equal signs
    found there.
    """
    scores = require(run.scores, "scores.json", "evaluate")
    rows = [
        (
            behaviour,
            point.node,
            point.predicted,
            point.exact,
            *(getattr(circuit.attribution_exact, name) for name in COLUMNS[4:]),
        )
        for behaviour, circuit in scores.items()
        for point in circuit.attribution_exact.points
    ]
    return {"attribution_exact": pd.DataFrame(rows, columns=list(COLUMNS))}


FIGURES.add(
    FigureCard(
        "attribution_exact",
        "Attribution against intervention",
        "Effect that attribution patching predicts against the effect a real intervention on the "
        "node had. On the dashed line the linear estimate is exact.",
        COLUMNS,
        draw,
        load,
    )
)
