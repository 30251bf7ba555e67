"""How well the directions read held-out stories and how reliable they are, layer by layer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import MUTED, NEUTRAL, SERIES, new_figure, widths
from emocircuits.names import layer_of

COLUMNS = ("layer", "measure", "mean", "ci_low", "ci_high", "p10", "p90", "bayes", "linear")
TITLES = {
    "auroc": "Held-out AUROC, one against all others",
    "reliability": "Split-half cosine of a direction",
}


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Two panels over layers: AUROC with what the best readers of the text reach, and split-half
    reliability.
    """
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.42)
    for axes, (measure, title), colour in zip(figure.subplots(1, 2), TITLES.items(), SERIES[:2], strict=True):
        rows = table[table.measure == measure].sort_values("layer")
        axes.fill_between(
            rows.layer, rows.p10, rows.p90, color=colour, alpha=0.14, lw=0, label="10–90 % of emotions"
        )
        low, high = rows["mean"] - rows.ci_low, rows.ci_high - rows["mean"]
        if rows.ci_low.notna().all():
            axes.errorbar(
                rows.layer,
                rows["mean"],
                yerr=[low, high],
                color=colour,
                marker="o",
                capsize=2,
                lw=1.5,
                label="mean over emotions",
            )
        else:
            axes.plot(rows.layer, rows["mean"], color=colour, marker="o", label="mean over emotions")
        if measure == "auroc":
            _limits(axes, rows)
            axes.axhline(0.5, color=MUTED, lw=0.7, ls=(0, (1, 2)), label="chance")
        else:
            axes.axhline(0, color=MUTED, lw=0.7, ls=(0, (1, 2)))
        axes.set_title(title, fontsize=7.5)
        axes.set_xlabel("layer")
        axes.set_xticks(rows.layer)
        axes.set_ylim(top=1.02)
        axes.legend(loc="lower center", fontsize=6)
    return figure


def _limits(axes: Axes, rows: pd.DataFrame) -> None:
    for name, label, line in (
        ("bayes", "best reader of the text (exact posterior)", "-"),
        ("linear", "best linear reader of the text", "--"),
    ):
        value = rows[name].iloc[0]
        if pd.notna(value):
            axes.axhline(value, color=NEUTRAL, lw=1.0, ls=line, label=label)


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """Means and intervals of `direction_sites.csv`, spread over emotions of `directions.csv`."""
    sites = columns(
        require(run.table("direction_sites.csv"), "direction_sites.csv", "directions"),
        ("site", "auroc", "auroc_low", "auroc_high"),
        "direction_sites.csv",
    )
    emotions = columns(
        require(run.table("directions.csv"), "directions.csv", "directions"),
        ("site", "held_out_auroc", "reliability"),
        "directions.csv",
    )
    rows = []
    for site in sites.itertuples():
        own = emotions[emotions.site == site.site]
        limits = [getattr(site, name, float("nan")) for name in ("bayes_auroc", "linear_auroc")]
        for measure, values, mean, low, high in (
            ("auroc", own.held_out_auroc, site.auroc, site.auroc_low, site.auroc_high),
            ("reliability", own.reliability, own.reliability.mean(), float("nan"), float("nan")),
        ):
            rows.append(
                (
                    layer_of(site.site),
                    measure,
                    mean,
                    low,
                    high,
                    values.quantile(0.1),
                    values.quantile(0.9),
                    *limits,
                )
            )
    return {"direction_quality": pd.DataFrame(rows, columns=list(COLUMNS))}


FIGURES.add(
    FigureCard(
        "direction_quality",
        "How well directions read, and how reliable they are",
        "Left: AUROC of every direction on held-out stories that never name the emotion, mean with 95 % "
        "interval, next to what the best readers of the same texts reach where the generator is known. "
        "Right: cosine between the directions of two random halves of the stories.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
