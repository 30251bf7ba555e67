"""Rate of the behaviour against the number of failures before the decision (organism only)."""

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import NEGATIVE, POSITIVE, new_figure, widths

COLUMNS = ("failures", "rate", "ci_low", "ci_high", "true_rate")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """The model's rate with its interval, and the generator's true probability."""
    rows = table.sort_values("failures")
    figure = new_figure(widths(venue)[0], 2.3)
    axes = figure.subplots()
    axes.fill_between(rows.failures, rows.ci_low, rows.ci_high, color=POSITIVE, alpha=0.18, lw=0)
    axes.plot(rows.failures, rows.rate, color=POSITIVE, marker="o", label="model (95 % interval)")
    axes.plot(
        rows.failures, rows.true_rate, color=NEGATIVE, ls="--", marker="s", ms=3, label="generator's truth"
    )
    axes.set(
        xlabel="failures before the decision", ylabel="rate", ylim=(0, 1), xticks=sorted(set(rows.failures))
    )
    axes.legend(loc="upper left")
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`failures.csv`."""
    table = columns(require(run.table("failures.csv"), "failures.csv", "evaluate"), COLUMNS, "failures.csv")
    return {"decision_failures": table[list(COLUMNS)]}


FIGURES.add(
    FigureCard(
        "decision_failures",
        "Decisions after failures",
        "Rate of the behaviour against the number of failed attempts before the decision, with the "
        "probability that the generator states.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
