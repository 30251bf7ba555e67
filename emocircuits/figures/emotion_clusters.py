"""Clusters of emotion directions in the plane of the two components that follow valence and arousal."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, Missing, columns, require
from emocircuits.figures.emotion_pca import axis_of
from emocircuits.figures.emotion_pca import load as load_components
from emocircuits.figures.style import GRID, INK, MARKERS, SERIES, literal, new_figure, widths
from emocircuits.limits import CLUSTER_EXEMPLARS

COLUMNS = ("emotion", "cluster", "x", "y", "x_name", "y_name", "central", "agreement")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One mark per emotion, one colour and shape per cluster; the legend names its most central emotions."""
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.5)
    axes = figure.subplots()
    axes.axhline(0, color=GRID, lw=0.7)
    axes.axvline(0, color=GRID, lw=0.7)
    for cluster, rows in table.groupby("cluster"):
        colour, marker = (
            SERIES[int(cluster) % len(SERIES)],
            MARKERS[(int(cluster) + int(cluster) // len(SERIES)) % len(MARKERS)],
        )
        names = rows.sort_values("central").emotion.head(CLUSTER_EXEMPLARS)
        axes.scatter(
            rows.x,
            rows.y,
            s=16,
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.3,
            label=literal(f"{', '.join(names)} ({len(rows)})"),
        )
        first = rows.sort_values("central").iloc[0]
        axes.annotate(
            literal(first.emotion),
            (first.x, first.y),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=6,
            color=INK,
        )
    axes.set(xlabel=table.x_name.iloc[0], ylabel=table.y_name.iloc[0])
    axes.set_title(
        f"{table.cluster.nunique()} clusters; other starts agree to "
        f"{table.agreement.iloc[0]:.2f} (adjusted Rand)",
        fontsize=7.5,
    )
    figure.legend(
        loc="outside right center",
        fontsize=6,
        handletextpad=0.3,
        title="most central emotions",
        title_fontsize=6.5,
    )
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`emotion_clusters.csv` on the components of the reading site."""
    clusters = columns(
        require(run.table("emotion_clusters.csv"), "emotion_clusters.csv", "directions"),
        ("emotion", "cluster", "agreement"),
        "emotion_clusters.csv",
    )
    components = load_components(run)["emotion_pca"].set_index("emotion")
    directions = require(run.directions, "directions.h5", "directions")
    if clusters.cluster.nunique() < 2:
        raise Missing("emotion_clusters.csv has one cluster")
    known = components.dropna(subset=["valence", "arousal"])
    across = axis_of(known, "valence")
    up = axis_of(known, "arousal", skip=across)
    vectors = directions.vectors[directions.site_index(directions.read_site)].astype(np.float64)
    number_of = {emotion: number for number, emotion in enumerate(directions.emotions)}
    centres = {
        cluster: vectors[[number_of[emotion] for emotion in rows.emotion]].mean(0)
        for cluster, rows in clusters.groupby("cluster")
    }
    rows = [
        (
            row.emotion,
            row.cluster,
            components.loc[row.emotion, across],
            components.loc[row.emotion, up],
            f"{across.upper()} (follows valence)",
            f"{up.upper()} (follows arousal)",
            float(np.linalg.norm(vectors[number_of[row.emotion]] - centres[row.cluster])),
            row.agreement,
        )
        for row in clusters.itertuples()
    ]
    return {"emotion_clusters": pd.DataFrame(rows, columns=list(COLUMNS))}


FIGURES.add(
    FigureCard(
        "emotion_clusters",
        "Clusters of emotions",
        "k-means of the unit directions at the reading site, shown on the principal components that follow "
        "valence and arousal best. The clusters live in all dimensions, so they may overlap here.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
