"""What more active features buy: L0 against variance lost and loss recovered, for every kind and width that
was tried.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import (
    LINES,
    MARKERS,
    MUTED,
    NEUTRAL,
    SERIES,
    literal,
    new_figure,
    widths,
)
from emocircuits.names import short_site

COLUMNS = ("site", "architecture", "d_sae", "k", "l0", "fvu", "ce_loss_recovered", "pca_fvu")
FLOORS = {
    "pca_fvu": ("principal components", (0, (1, 1))),
    "frozen_fvu": ("frozen random decoder", ":"),
    "randomised_fvu": ("model with shuffled weights", "-."),
}
FILE = "sweep/sweep.csv"


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Left FVU with the floors, right the share of the cross-entropy loss recovered; one line per kind and
    width.
    """
    figure = new_figure(widths(venue)[1], 2.75)
    lost, recovered = figure.subplots(1, 2)
    groups = list(table.sort_values("l0").groupby(["architecture", "d_sae"], sort=True))
    for number, ((name, width), rows) in enumerate(groups):
        look = {
            "color": SERIES[number % len(SERIES)],
            "marker": MARKERS[number % len(MARKERS)],
            "ls": LINES[number // len(SERIES) % len(LINES)],
            "label": literal(f"{name.replace('_', ' ')} {width}"),
        }
        lost.plot(rows.l0, rows.fvu, **look)
        recovered.plot(rows.l0, rows.ce_loss_recovered, **look)
    for column, (label, line) in FLOORS.items():
        if column in table:
            floor = (
                table.dropna(subset=[column])
                .groupby("k")
                .agg({"l0": "mean", column: "mean"})
                .sort_values("l0")
            )
            lost.plot(
                floor.l0,
                floor[column],
                color=MUTED if column == "pca_fvu" else NEUTRAL,
                ls=line,
                lw=1.1,
                label=label,
            )
    lost.set(ylabel="fraction of variance unexplained", ylim=(0, None))
    recovered.set(ylabel="CE loss recovered")
    for axes in (lost, recovered):
        _log_x(axes, table.l0)
    figure.legend(*lost.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _log_x(axes: Axes, values: pd.Series) -> None:
    axes.set_xlabel("active features per token (L0)")
    if values.min() > 0 and values.nunique() > 1:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        low, high = np.floor(np.log2(values.min())), np.ceil(np.log2(values.max()))
        axes.set_xticks(2.0 ** np.arange(low, high + 1))


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`sweep/sweep.csv`, one figure per site."""
    table = columns(require(run.table(FILE), FILE, "emocircuits sae sweep"), COLUMNS, FILE)
    kept = [*COLUMNS, *(name for name in FLOORS if name in table and name not in COLUMNS)]
    return {
        f"sae_pareto_{short_site(site)}": rows[kept].reset_index(drop=True)
        for site, rows in table.groupby("site")
    }


FIGURES.add(
    FigureCard(
        "sae_pareto",
        "Sparsity against fidelity",
        "Variance lost and cross-entropy loss recovered over the number of active features, for every kind "
        "and width of a sweep, next to as many principal components, SAEs with a frozen random decoder, and "
        "SAEs of the model with shuffled weights (on its own activations).",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
