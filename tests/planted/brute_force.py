"""What the edges of a small model are, by patching every one of them in both runs, and how a search
compares.
"""

import numpy as np
import pandas as pd
from planted.tasks import task_of
from sklearn.metrics import roc_auc_score

from emocircuits.attribution.methods.exact import exact_effects
from emocircuits.graphs.components import component_graph

LEAST = 0.02  # share of the metric's difference between the runs that makes an edge true


def true_edges(model, batch, metric) -> tuple[frozenset[tuple[str, str]], float, int]:
    """Edges that move the metric in the corrupt or the clean run, the metric's mean difference, and the
    passes of one of both runs.
    """
    graph, truth = component_graph(task_of(model, batch, metric)), set()
    for background in ("corrupt", "clean"):
        exact = exact_effects(graph, background=background)
        scale = float(np.abs(exact.metric_clean - exact.metric_corrupt).mean())
        truth |= edges_of(exact.edge_table(), "effect", LEAST * scale)
    return frozenset(truth), scale, exact.passes


def edges_of(table: pd.DataFrame, column: str, least: float) -> set[tuple[str, str]]:
    """Edges of which a column is larger than `least`."""
    strong = table[table[column].abs() > least]
    return set(zip(strong.source, strong.target, strict=True))


def auroc(table: pd.DataFrame, truth: frozenset[tuple[str, str]]) -> float:
    """How well effects, and predictions where nothing was patched, tell true edges from the others."""
    labels = [edge in truth for edge in zip(table.source, table.target, strict=True)]
    return float(roc_auc_score(labels, table.effect.fillna(table.predicted).abs()))
