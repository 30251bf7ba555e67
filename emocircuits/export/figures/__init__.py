"""Paper figures: each import below is one figure, a pure function from a tidy table, in the order of the contact sheet."""

# ruff: noqa: I001

from emocircuits.export.figures import (
    emotion_similarity,
    emotion_pca,
    sae_quality,
    sae_pareto,
    match_null,
    steering,
    circuit_diagram,
    attribution_exact,
    faithfulness,
    decision_failures,
    token_reading,
)
from emocircuits.export.figures.card import FIGURES, FigureCard, Missing, RunTables
from emocircuits.export.figures.style import picture
from emocircuits.export.figures.write import draw_figure, from_run, write_figure, write_figures

__all__ = [
    "FIGURES",
    "FigureCard",
    "Missing",
    "RunTables",
    "attribution_exact",
    "circuit_diagram",
    "decision_failures",
    "draw_figure",
    "emotion_pca",
    "emotion_similarity",
    "faithfulness",
    "from_run",
    "match_null",
    "picture",
    "sae_pareto",
    "sae_quality",
    "steering",
    "token_reading",
    "write_figure",
    "write_figures",
]
