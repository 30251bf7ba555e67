"""A figure: how much of the effect each layer's nodes carry."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from emocircuits import FIGURES, FigureCard, write_figures

COLUMN = 3.25  # inches, the venues' columns


def draw(table: pd.DataFrame, venue: str):
    """A pure function from the tidy table to a matplotlib Figure."""
    figure = Figure(figsize=(COLUMN, 0.6 * COLUMN), layout="constrained")
    axes = figure.subplots()
    axes.bar(
        table.layer, table.effect, color=["#D55E00" if value > 0 else "#0072B2" for value in table.effect]
    )
    axes.set(xlabel="layer", ylabel="sum of node effects", xticks=table.layer)
    return figure


def load(run) -> dict[str, pd.DataFrame]:
    """One table per file that will be written."""
    tables = {}
    for behaviour, circuit in run.circuits.items():
        rows = [(node.layer, node.effect) for node in circuit.nodes if node.layer is not None]
        table = pd.DataFrame(rows, columns=["layer", "effect"]).groupby("layer", as_index=False).sum()
        tables[f"layer_effects_{behaviour}"] = table
    return tables


FIGURES.add(
    FigureCard(
        "layer_effects",
        "Effect by layer",
        "Sum of node effects of the circuit in each layer.",
        ("layer", "effect"),
        draw,
        load,
        optional=True,
    )
)


def example(run: Path) -> None:
    """`emocircuits figures RUN --only layer_effects` writes it; here into a folder beside the run."""
    paths = write_figures(run, run.parent / "layer_effects", only=["layer_effects"], venue="icml")
    assert [path.suffix for path in paths] == [".pdf", ".svg", ".png", ".csv", ".json", ".html"]
