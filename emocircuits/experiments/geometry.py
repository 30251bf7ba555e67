"""The shape of the space of emotion directions: principal components, what they track, clusters, likeness of
layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.stats import rankdata

from emocircuits.errors import UserError
from emocircuits.numerics import fisher_interval, generator


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
    return PrincipalComponents(
        scores=left[:, :n] * values[:n], components=right[:n], explained=(values**2 / (values**2).sum())[:n]
    )


def coordinate_correlations(
    vectors: Float[np.ndarray, "emotion d_model"],
    emotions: Sequence[str],
    coordinates: pd.DataFrame,
    n: int = 3,
) -> pd.DataFrame:
    """Pearson correlation of every top component with every coordinate (valence, arousal, …) over the
    emotions.

    Args:
        vectors: one direction per emotion.
        emotions: their names.
        coordinates: a table with the column `emotion` (or emotions as index) and numeric columns.
        n: number of components.

    Returns:
        `coordinate, component` (1 is the first), `r, abs_r, ci_low, ci_high` (95 % interval of |r| by
        Fisher's z), `explained, n_emotions`; the sign of r means nothing.

    Raises:
        UserError: fewer than three emotions have coordinates.
    """
    table = coordinates.set_index("emotion") if "emotion" in coordinates else coordinates
    known = [row for row, emotion in enumerate(emotions) if emotion in table.index]
    if len(known) < 3:
        raise UserError(
            f"{len(known)} of {len(emotions)} emotions have coordinates", expected="at least three"
        )
    components = principal_components(vectors, n)
    numbers = table.loc[[emotions[row] for row in known]].select_dtypes("number")
    rows = []
    for name in numbers:
        for component in range(components.scores.shape[1]):
            r = float(
                np.corrcoef(components.scores[known, component], numbers[name].to_numpy(dtype=np.float64))[
                    0, 1
                ]
            )
            rows.append(
                (
                    name,
                    component + 1,
                    r,
                    abs(r),
                    *fisher_interval(abs(r), len(known)),
                    float(components.explained[component]),
                    len(known),
                )
            )
    columns = ["coordinate", "component", "r", "abs_r", "ci_low", "ci_high", "explained", "n_emotions"]
    return pd.DataFrame(rows, columns=columns)


def best_correlation(correlations: pd.DataFrame, coordinate: str) -> float:
    """Largest |r| of a coordinate with any of the components."""
    return float(correlations.loc[correlations["coordinate"] == coordinate, "abs_r"].max())


def cosine_matrix(vectors: Float[np.ndarray, "emotion d_model"]) -> Float[np.ndarray, "emotion emotion"]:
    """Cosines between all directions."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.clip(unit @ unit.T, -1, 1)


def cluster_emotions(
    vectors: Float[np.ndarray, "emotion d_model"], k: int = 10, *, seed: int = 0, n_starts: int = 20
) -> tuple[Int[np.ndarray, "emotion"], float]:
    """k-means of unit directions (k-means++, best of `n_starts`), and how far other starts agree with it.

    Returns:
        The cluster of every emotion (0 is the largest), and the mean adjusted Rand index (Hubert & Arabie
        1985) of the other
        starts with the best one: 1 the same clusters, 0 no more alike than chance.
    """
    if not 1 < k < len(vectors):
        raise UserError(
            f"{k} clusters of {len(vectors)} emotions", expected="more than one and fewer than the emotions"
        )
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float64)
    runs = [
        kmeans2(unit, k, minit="++", seed=generator(seed, "clusters", start), iter=100)
        for start in range(n_starts)
    ]
    inertia = [float(((unit - centres[labels]) ** 2).sum()) for centres, labels in runs]
    best = int(np.argmin(inertia))
    order = np.argsort(-np.bincount(runs[best][1], minlength=k), kind="stable")
    agreement = [
        adjusted_rand(runs[best][1], labels) for start, (_, labels) in enumerate(runs) if start != best
    ]
    return np.argsort(order)[runs[best][1]].astype(np.int64), float(np.mean(agreement)) if agreement else 1.0


def adjusted_rand(first: Int[np.ndarray, "emotion"], second: Int[np.ndarray, "emotion"]) -> float:
    """Agreement of two clusterings, corrected for chance."""
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(table, (first, second), 1)
    pairs, rows, columns = (
        (counts * (counts - 1) / 2).sum() for counts in (table, table.sum(axis=1), table.sum(axis=0))
    )
    expected = rows * columns / (len(first) * (len(first) - 1) / 2)
    highest = (rows + columns) / 2
    return 1.0 if highest == expected else float((pairs - expected) / (highest - expected))


def layer_similarity(
    vectors: Float[np.ndarray, "site emotion d_model"],
    sites: Sequence[str],
    *,
    seed: int = 0,
    n_bootstrap: int = 500,
) -> pd.DataFrame:
    """Representational similarity (Kriegeskorte 2008): Spearman correlation of the cosines between all pairs
    of emotions.

    Returns:
        `site, other, rho, ci_low, ci_high` for every pair of sites; intervals resample emotions (never
        pairing one with itself; those of fewer than three different emotions are left out).
    """
    n = vectors.shape[1]
    upper = np.triu_indices(n, 1)
    ranks = np.zeros((len(sites), n, n))
    for layer, matrix in enumerate(vectors):
        ranked = rankdata(cosine_matrix(matrix.astype(np.float64))[upper])
        ranks[layer][upper] = (ranked - ranked.mean()) / ranked.std()
        ranks[layer] += ranks[layer].T
    draws = (
        generator(seed, "layer-similarity")
        .multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
        .astype(np.float64)
    )
    weights = np.concatenate([np.ones((1, n)), draws[(draws > 0).sum(axis=1) > 2]])

    def weighted(values: Float[np.ndarray, "emotion emotion"]) -> Float[np.ndarray, "draw"]:
        return ((weights @ values) * weights).sum(axis=1) / (
            weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        )

    means, squares = [weighted(rank) for rank in ranks], [weighted(rank**2) for rank in ranks]
    rows = []
    for i, site in enumerate(sites):
        for j, other in enumerate(sites):
            covariance = weighted(ranks[i] * ranks[j]) - means[i] * means[j]
            rho = covariance / np.sqrt((squares[i] - means[i] ** 2) * (squares[j] - means[j] ** 2))
            rows.append((site, other, float(rho[0]), *np.quantile(rho[1:], [0.025, 0.975]).tolist()))
    return pd.DataFrame(rows, columns=["site", "other", "rho", "ci_low", "ci_high"])
