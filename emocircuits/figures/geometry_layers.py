"""Which layers order emotions by valence and arousal, and how alike the layers are."""

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import GRID, INK, MARKERS, SERIES, new_figure, widths
from emocircuits.names import layer_of

COLUMNS = ("panel", "layer", "other", "value", "ci_low", "ci_high", "component")
COORDINATES = ("valence", "arousal")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Left: the best |r| of the first three components with each coordinate; right: the likeness of all pairs
    of layers.
    """
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.42)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for number, name in enumerate(COORDINATES):
        rows = table[table.panel == name].sort_values("layer")
        x = rows.layer + 0.06 * (2 * number - 1)
        left.errorbar(
            x,
            rows.value,
            yerr=[rows.value - rows.ci_low, rows.ci_high - rows.value],
            color=SERIES[number],
            marker=MARKERS[number],
            capsize=2,
            lw=1.4,
            label=name,
        )
        for at, row in zip(x, rows.itertuples(), strict=True):
            below = number == 0
            left.annotate(
                f"PC{row.component:.0f}",
                (at, row.ci_low if below else row.ci_high),
                xytext=(0, -2 if below else 2),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                fontsize=5.5,
                color=SERIES[number],
            )
    layers = sorted(table.layer.unique())
    left.set(xlabel="layer", ylabel="|r| with the norms", ylim=(0, 1.05), xticks=layers)
    left.grid(axis="y", color=GRID, lw=0.6)
    left.legend(loc="lower right")
    left.set_title("Components that follow valence and arousal", fontsize=7.5)
    matrix = table[table.panel == "likeness"].pivot(index="layer", columns="other", values="value")
    image = right.imshow(
        matrix.to_numpy(), cmap="Purples", vmin=min(0.0, float(matrix.to_numpy().min())), vmax=1
    )
    right.set_xticks(range(len(matrix)), [f"{layer:.0f}" for layer in matrix.columns])
    right.set_yticks(range(len(matrix)), [f"{layer:.0f}" for layer in matrix.index])
    for i, line in enumerate(matrix.to_numpy()):
        for j, value in enumerate(line):
            if len(matrix) <= 12:
                right.text(
                    j,
                    i,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if value > 0.7 else INK,
                )
    right.set(xlabel="layer", ylabel="layer")
    right.set_title("Likeness of layers (Spearman of all cosines)", fontsize=7.5)
    bar = figure.colorbar(image, ax=right, shrink=0.8, aspect=20, pad=0.02)
    bar.outline.set_visible(False)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`geometry.csv`: the component of the first three with the largest |r|; `layer_similarity.csv`."""
    geometry = columns(
        require(run.table("geometry.csv"), "geometry.csv", "directions"),
        ("site", "coordinate", "abs_r", "ci_low", "ci_high", "component"),
        "geometry.csv",
    )
    likeness = columns(
        require(run.table("layer_similarity.csv"), "layer_similarity.csv", "directions"),
        ("site", "other", "rho"),
        "layer_similarity.csv",
    )
    best = (
        geometry[geometry.coordinate.isin(COORDINATES)]
        .sort_values("abs_r", ascending=False)
        .drop_duplicates(["site", "coordinate"])
    )
    rows = [
        (row.coordinate, layer_of(row.site), float("nan"), row.abs_r, row.ci_low, row.ci_high, row.component)
        for row in best.itertuples()
    ]
    rows += [
        ("likeness", layer_of(row.site), layer_of(row.other), row.rho, row.ci_low, row.ci_high, float("nan"))
        for row in likeness.itertuples()
    ]
    return {
        "geometry_layers": require(
            pd.DataFrame(rows, columns=list(COLUMNS)), "rows of geometry.csv", "directions"
        )
    }


FIGURES.add(
    FigureCard(
        "geometry_layers",
        "The space of emotions, layer by layer",
        "Left: largest |r| of the first three principal components of the directions with valence and "
        "arousal, 95 % interval by Fisher's z (the choice among three is part of it). Right: rank "
        "correlation of all cosines between emotions.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
