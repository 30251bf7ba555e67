"""Paper figures: each import below is one figure, a pure function from a tidy table, in the order of the
contact sheet.
"""

# ruff: noqa: I001

from emocircuits.figures import (
    direction_quality,
    emotion_similarity,
    emotion_pca,
    emotion_clusters,
    geometry_layers,
    logit_lens,
    intensity,
    preference,
    speaker_directions,
    sae_quality,
    sae_pareto,
    match_null,
    steering,
    trace,
    coherence,
    mediation,
    causal_check,
    circuit_diagram,
    feature_dashboard,
    attribution_exact,
    faithfulness,
    decision_failures,
    token_reading,
)
from emocircuits.figures.card import FIGURES, FigureCard, Missing
from emocircuits.figures.show import Picture, show_figure
from emocircuits.figures.style import picture
from emocircuits.figures.write import draw_figure, from_run, write_figure, write_figures

__all__ = [
    "FIGURES",
    "FigureCard",
    "Missing",
    "Picture",
    "attribution_exact",
    "causal_check",
    "circuit_diagram",
    "coherence",
    "decision_failures",
    "direction_quality",
    "draw_figure",
    "emotion_clusters",
    "emotion_pca",
    "emotion_similarity",
    "faithfulness",
    "feature_dashboard",
    "from_run",
    "geometry_layers",
    "intensity",
    "logit_lens",
    "match_null",
    "mediation",
    "picture",
    "preference",
    "sae_pareto",
    "sae_quality",
    "show_figure",
    "speaker_directions",
    "steering",
    "token_reading",
    "trace",
    "write_figure",
    "write_figures",
]
