"""A figure: how much of the effect each layer's nodes carry."""

from pathlib import Path

import pandas as pd

from emocircuits.figures import FIGURES, FigureCard, from_run, write_figure
from emocircuits.figures.card import require
from emocircuits.figures.style import NEGATIVE, POSITIVE, new_figure, widths


def draw(table: pd.DataFrame, venue: str):
    """A pure function from the tidy table to a matplotlib Figure."""
    width = widths(venue)[0]
    figure = new_figure(width, width * 0.6)
    axes = figure.subplots()
    axes.bar(table.layer, table.effect, color=[POSITIVE if value > 0 else NEGATIVE for value in table.effect])
    axes.set(xlabel="layer", ylabel="sum of node effects", xticks=table.layer)
    return figure


def load(run) -> dict[str, pd.DataFrame]:
    """One table per file that will be written."""
    found = {}
    for behaviour, circuit in require(run.circuits, "circuit_<behaviour>.json", "circuit").items():
        rows = [(node.layer, node.effect) for node in circuit.nodes if node.layer is not None]
        table = pd.DataFrame(rows, columns=["layer", "effect"]).groupby("layer", as_index=False).sum()
        found[f"layer_effects_{behaviour}"] = table
    return found


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
    for name, (card, table, inputs) in from_run(run, ["layer_effects"]).items():
        paths = write_figure(
            card, table, run.parent / "layer_effects", name=name, venue="icml", inputs=inputs
        )
        assert [path.suffix for path in paths] == [".pdf", ".svg", ".png", ".csv", ".json"]
