"""How far a direction would have come out elsewhere with other stories: split-half reliability and bootstrap
intervals.

`reliability` is the mean cosine between the directions of two random halves of the stories,
`reliability_full` what it would be for two samples of the full size (Spearman 1910; Brown 1910: 2r / (1 +
r)); its root bounds the cosine that a direction from this many stories can have with the direction from
infinitely many. Intervals come from replicates: `cosine_low` is the 5 % quantile of the cosine of a replicate
with the direction, and the length of replicates along the direction gives `norm_low` and `norm_high` (2.5 and
97.5 %; spread only: the length of a noisy vector is too large on average, and that is not corrected).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from emocircuits.directions.estimator import Estimator, EstimatorOptions
from emocircuits.directions.statistics import (
    ClassStatistics,
    Design,
    LabelledStories,
    SiteStatistics,
    replicate_weights,
)
from emocircuits.numerics import generator

DRAWS_AT_ONCE = 32
QUALITIES = ("reliability", "reliability_full", "cosine_low", "norm_low", "norm_high")


def split_halves(
    labels: Int[np.ndarray, "story"], n_splits: int, seed: int
) -> Int[np.ndarray, "split story"]:
    """0 or 1 for every story, random and balanced within each label."""
    halves = np.zeros((n_splits, len(labels)), dtype=np.int64)
    for split in range(n_splits):
        order = generator(seed, "halves", split).permutation(len(labels))
        by_label = order[np.argsort(labels[order], kind="stable")]
        starts = np.concatenate([[0], np.cumsum(np.unique(labels, return_counts=True)[1])[:-1]])
        rank = np.arange(len(labels)) - np.repeat(starts, np.diff(np.append(starts, len(labels))))
        halves[split, by_label] = rank % 2
    return halves


def direction_quality(
    estimator: Estimator,
    options: EstimatorOptions,
    statistics: SiteStatistics,
    design: Design,
    raw: Float[np.ndarray, "label d_model"],
) -> dict[str, Float[np.ndarray, "label"]]:
    """`QUALITIES` of every direction of a site; NaN where no halves or no replicates were asked for."""
    unit = raw / np.linalg.norm(raw, axis=-1, keepdims=True)
    n_splits, blank = len(design.halves), np.full(len(raw), np.nan)
    cosines, lengths = [], []
    for replicate in _draws(
        estimator,
        options,
        statistics.replicates,
        statistics,
        _replicates_by_refit(design),
        design.n_bootstrap,
    ):
        along = np.einsum("red,ed->re", replicate, unit)
        lengths.append(along)
        cosines.append(along / np.linalg.norm(replicate, axis=-1))
    flat = _without_split_axis(statistics.halves)
    halves = list(_draws(estimator, options, flat, statistics, _halves_by_refit(design), 2 * n_splits))
    quality = dict.fromkeys(QUALITIES, blank)
    if n_splits:
        pairs = np.concatenate(halves).reshape(n_splits, 2, *raw.shape)
        pairs /= np.linalg.norm(pairs, axis=-1, keepdims=True)
        r = np.einsum("sed,sed->se", pairs[:, 0], pairs[:, 1]).mean(axis=0)
        quality |= {"reliability": r, "reliability_full": 2 * r / (1 + r)}
    if cosines:
        low, high = np.quantile(np.concatenate(lengths), [0.025, 0.975], axis=0)
        quality |= {
            "cosine_low": np.quantile(np.concatenate(cosines), 0.05, axis=0),
            "norm_low": low,
            "norm_high": high,
        }
    return {name: np.asarray(values, dtype=np.float32) for name, values in quality.items()}


def _draws(
    estimator: Estimator,
    options: EstimatorOptions,
    gathered: ClassStatistics,
    statistics: SiteStatistics,
    weights: Callable[[int, np.ndarray], np.ndarray],
    n: int,
):
    """Raw directions of the draws: many at once from their gathered means, or refitted one by one with story
    weights.
    """
    own = statistics.emotions
    if not estimator.needs_stories:
        for start in range(0, n, DRAWS_AT_ONCE):
            part = slice(start, start + DRAWS_AT_ONCE)
            yield estimator.fit(
                _with(gathered, means=gathered.means[part], weights=gathered.weights[part]), options
            )
        return
    for draw in range(n):
        chosen = weights(draw, own.stories.weights)
        stories = LabelledStories(own.stories.means, own.stories.labels, chosen)
        yield estimator.fit(
            _with(
                own,
                means=gathered.means[draw].astype(np.float64),
                weights=gathered.weights[draw],
                stories=stories,
            ),
            options,
        )[None]


def _replicates_by_refit(design: Design) -> Callable[[int, np.ndarray], np.ndarray]:
    counted = np.flatnonzero(design.labels >= 0)

    def weights(draw: int, like: np.ndarray) -> np.ndarray:
        parts = [
            replicate_weights(design, first, min(design.chunk, len(design.labels) - first))[:, draw]
            for first in range(0, len(design.labels), design.chunk)
        ]
        return np.concatenate(parts)[counted].astype(like.dtype)

    return weights


def _halves_by_refit(design: Design) -> Callable[[int, np.ndarray], np.ndarray]:
    counted = np.flatnonzero(design.labels >= 0)
    return lambda draw, like: (design.halves[draw // 2, counted] == draw % 2).astype(like.dtype)


def _without_split_axis(halves: ClassStatistics) -> ClassStatistics:
    return _with(
        halves,
        means=halves.means.reshape(-1, *halves.means.shape[2:]),
        weights=halves.weights.reshape(-1, halves.weights.shape[2]),
    )


def _with(statistics: ClassStatistics, **changes: object) -> ClassStatistics:
    return ClassStatistics(**{**vars(statistics), **changes})
