"""Cosine similarity of the emotion directions, ordered by clusters."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, require
from emocircuits.figures.style import DIVERGING, literal, new_figure, widths
from emocircuits.limits import SIMILARITY_LABELS

COLUMNS = ("emotion", "other", "cosine", "row", "column")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """A heat map centred on zero; row and column order are in the table."""
    matrix = table.pivot(index="row", columns="column", values="cosine").to_numpy()
    names = table[table.column == 0].sort_values("row").emotion.tolist()
    width = min(widths(venue)[1], 2.4 + 0.16 * len(names))
    figure = new_figure(width, width * 0.86)
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="none")
    every = max(1, -(-len(names) // SIMILARITY_LABELS))
    shown = range(0, len(names), every)
    size = min(7.0, max(4.5, 330 / max(len(names) / every, 1) / 2.2))
    axes.set_xticks(list(shown), [literal(names[i]) for i in shown], rotation=90, fontsize=size)
    axes.set_yticks(list(shown), [literal(names[i]) for i in shown], fontsize=size)
    axes.tick_params(length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=24, pad=0.02)
    bar.set_label("cosine similarity")
    bar.outline.set_visible(False)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """All pairs at the reading site, leaves ordered by average linkage on 1 − cosine."""
    directions = require(run.directions, "directions.h5", "directions")
    vectors = directions.vectors[directions.site_index(directions.read_site)].astype(np.float64)
    cosine = np.clip(vectors @ vectors.T, -1, 1)
    distance = 1 - cosine
    order = np.arange(len(cosine))
    if len(cosine) > 2:
        condensed = squareform((distance + distance.T) / 2, checks=False)
        order = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed))
    names = np.array(directions.emotions, dtype=object)[order]
    rows, cols = np.meshgrid(np.arange(len(order)), np.arange(len(order)), indexing="ij")
    return {
        "emotion_similarity": pd.DataFrame(
            {
                "emotion": names[rows.ravel()],
                "other": names[cols.ravel()],
                "cosine": cosine[np.ix_(order, order)].ravel(),
                "row": rows.ravel(),
                "column": cols.ravel(),
            }
        )
    }


FIGURES.add(
    FigureCard(
        "emotion_similarity",
        "Emotion directions, pairwise",
        "Cosine similarity of the emotion directions at the reading site, ordered by average-"
        "linkage clusters. Near emotions should be near and opposite emotions negative.",
        COLUMNS,
        draw,
        load,
    )
)
