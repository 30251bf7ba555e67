"""Quality of the SAEs, site by site."""

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import GRID, INK, NEGATIVE, literal, new_figure, widths
from emocircuits.names import short_site

COLUMNS = ("site", "l0", "fvu", "ce_loss_recovered", "dead_fraction")
PANELS = (
    ("explained", "variance explained", "{:.3f}"),
    ("ce_loss_recovered", "CE loss recovered", "{:.3f}"),
    ("dead_fraction", "dead features", "{:.1%}"),
    ("l0", "L0", "{:.1f}"),
)


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Four dot plots that share the sites; every number is printed."""
    rows = table.assign(explained=1 - table.fvu).reset_index(drop=True)
    width = widths(venue)[1]
    figure = new_figure(width, 0.75 + 0.26 * len(rows))
    places = range(len(rows) - 1, -1, -1)
    for i, (axes, (name, title, form)) in enumerate(
        zip(figure.subplots(1, 4, sharey=True), PANELS, strict=True)
    ):
        values = rows[name]
        top = 1.0 if name != "l0" else float(values.max() or 1)
        axes.hlines(list(places), 0, values, color=GRID, lw=2.4, zorder=1)
        axes.plot(values, list(places), "o", color=NEGATIVE, ms=4.5, zorder=2, clip_on=False)
        for y, value in zip(places, values, strict=True):
            axes.text(
                top * 1.12,
                y,
                form.format(value),
                va="center",
                ha="left",
                fontsize=6.8,
                color=INK,
                clip_on=False,
            )
        axes.set(
            xlim=(0, top * 1.05),
            ylim=(-0.6, len(rows) - 0.4),
            xticks=[0, top],
            xticklabels=["0", f"{top:.0f}"],
        )
        axes.set_title(title, fontsize=7)
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
        axes.text(top * 1.5, 0, " ", fontsize=6.8)
        if i == 0:
            axes.set_yticks(list(places), [literal(_short(site)) for site in rows.site])
    return figure


def _short(site: str) -> str:
    return short_site(site) if site.startswith("blocks.") else site


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`saes.csv`."""
    table = columns(require(run.table("saes.csv"), "saes.csv", "sae"), COLUMNS, "saes.csv")
    return {"sae_quality": table[list(COLUMNS)]}


FIGURES.add(
    FigureCard(
        "sae_quality",
        "SAE quality",
        "Fraction of variance explained, share of the cross-entropy loss recovered when the SAE replaces "
        "the residual stream, dead features and L0 of each SAE, measured on held-out rows.",
        COLUMNS,
        draw,
        load,
    )
)
