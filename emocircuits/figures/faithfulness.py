"""How much of the behaviour circuits of growing size restore, next to random circuits of the same size."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, require
from emocircuits.figures.style import GRID, MUTED, NEUTRAL, POSITIVE, literal, new_figure, widths

COLUMNS = (
    "behaviour",
    "size",
    "faithfulness",
    "ci_low",
    "ci_high",
    "random_mean",
    "random_low",
    "random_high",
)


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel per behaviour; sizes on a logarithmic axis; 0 is the corrupt run, 1 the clean run."""
    behaviours = list(dict.fromkeys(table.behaviour))
    width = widths(venue)[1]
    figure = new_figure(width if len(behaviours) > 1 else width * 0.6, 2.55)
    for i, (axes, name) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(behaviours), sharey=True)), behaviours, strict=True)
    ):
        rows = table[table.behaviour == name].sort_values("size")
        for level in (0, 1):
            axes.axhline(
                level, color=GRID if level == 0 else MUTED, lw=0.8, ls="-" if level == 0 else "--", zorder=0
            )
        random = rows.dropna(subset=["random_mean", "random_low", "random_high"])
        axes.fill_between(
            random["size"], random.random_low, random.random_high, color=NEUTRAL, alpha=0.28, lw=0, zorder=1
        )
        axes.plot(
            random["size"],
            random.random_mean,
            color=MUTED,
            ls="--",
            marker="s",
            ms=2.6,
            lw=1,
            label="random circuits (range)",
            zorder=2,
        )
        axes.fill_between(rows["size"], rows.ci_low, rows.ci_high, color=POSITIVE, alpha=0.18, lw=0, zorder=3)
        axes.plot(
            rows["size"],
            rows.faithfulness,
            color=POSITIVE,
            marker="o",
            label="circuit (95 % interval)",
            zorder=4,
        )
        if (rows["size"] > 0).all() and rows["size"].nunique() > 1:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
            sizes = rows["size"].tolist()
            axes.set_xticks([size for k, size in enumerate(sizes) if k == 0 or size >= 1.6 * sizes[k - 1]])
            axes.minorticks_off()
        axes.set_xlabel("nodes in the circuit")
        axes.set_title(literal(name.replace("_", " ")))
        if i == 0:
            axes.set_ylabel("faithfulness")
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """The curves of `scores.json`."""
    scores = require(run.scores, "scores.json", "evaluate")
    rows = [
        (behaviour, *(getattr(point, name) for name in COLUMNS[1:]))
        for behaviour, circuit in scores.items()
        for point in circuit.faithfulness_curve
    ]
    return {"faithfulness": pd.DataFrame(rows, columns=list(COLUMNS))}


FIGURES.add(
    FigureCard(
        "faithfulness",
        "Faithfulness against size",
        "Share of the metric's change from corrupt (0) to clean (1) that remains when everything outside "
        "the circuit is ablated, on held-out prompts, for growing circuits and for random "
        "circuits of the same sizes.",
        COLUMNS,
        draw,
        load,
    )
)
