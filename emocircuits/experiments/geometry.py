"""The shape of the space of emotion directions: principal components, what they track, and an order for heatmaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from emocircuits.errors import UserError


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Principal components of a set of directions (their signs are arbitrary).

    Attributes:
        scores: place of every emotion along every component.
        components: unit rows.
        explained: share of the variance of each component.
    """

    scores: Float[np.ndarray, "emotion component"]
    components: Float[np.ndarray, "component d_model"]
    explained: Float[np.ndarray, "component"]


def principal_components(vectors: Float[np.ndarray, "emotion d_model"], n: int = 3) -> PrincipalComponents:
    """PCA of directions (centred over the emotions), by singular values."""
    n = min(n, *vectors.shape)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    return PrincipalComponents(scores=left[:, :n] * values[:n], components=right[:n], explained=(values**2 / (values**2).sum())[:n])


def coordinate_correlations(
    vectors: Float[np.ndarray, "emotion d_model"], emotions: Sequence[str], coordinates: pd.DataFrame, n: int = 3
) -> pd.DataFrame:
    """Pearson correlation of every top component with every coordinate (valence, arousal, …) over the emotions.

    Args:
        vectors: one direction per emotion.
        emotions: their names.
        coordinates: a table with the column `emotion` (or emotions as index) and numeric columns.
        n: number of components.

    Returns:
        `coordinate, component` (1 is the first), `r, abs_r, explained, n_emotions`; the sign of r means nothing.

    Raises:
        UserError: fewer than three emotions have coordinates.
    """
    table = coordinates.set_index("emotion") if "emotion" in coordinates else coordinates
    known = [place for place, emotion in enumerate(emotions) if emotion in table.index]
    if len(known) < 3:
        raise UserError(f"{len(known)} of {len(emotions)} emotions have coordinates", expected="at least three")
    found = principal_components(vectors, n)
    numbers = table.loc[[emotions[place] for place in known]].select_dtypes("number")
    rows = []
    for name in numbers:
        for component in range(found.scores.shape[1]):
            r = float(np.corrcoef(found.scores[known, component], numbers[name].to_numpy(dtype=np.float64))[0, 1])
            rows.append((name, component + 1, r, abs(r), float(found.explained[component]), len(known)))
    return pd.DataFrame(rows, columns=["coordinate", "component", "r", "abs_r", "explained", "n_emotions"])


def best_correlation(correlations: pd.DataFrame, coordinate: str) -> float:
    """Largest |r| of a coordinate with any of the components."""
    return float(correlations.loc[correlations["coordinate"] == coordinate, "abs_r"].max())


def cosine_matrix(vectors: Float[np.ndarray, "emotion d_model"]) -> Float[np.ndarray, "emotion emotion"]:
    """Cosines between all directions."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1, 1)


def heatmap_order(vectors: Float[np.ndarray, "emotion d_model"]) -> Int[np.ndarray, "emotion"]:
    """Order in which a hierarchical clustering (average linkage, cosine distance, optimal leaves) puts the emotions."""
    if len(vectors) < 3:
        return np.arange(len(vectors))
    distance = 1 - cosine_matrix(vectors).astype(np.float64)
    np.fill_diagonal(distance, 0)
    condensed = squareform((distance + distance.T) / 2, checks=False)
    tree = hierarchy.linkage(condensed, "average")
    return hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, condensed)).astype(np.int64)
