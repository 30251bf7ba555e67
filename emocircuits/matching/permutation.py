"""The null of a match: labels permuted over whole stories, the largest z over all features.

Tokens of one story are not independent, so stories are permuted, not tokens. Taking the maximum over every feature of
every site makes p family-wise (Westfall & Young 1993, single step): the chance that any feature at all would look this good.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from emocircuits.matching.contrast import Contrast, against_others
from emocircuits.matching.standardised_delta import standardised
from emocircuits.numerics import generator

BATCH_VALUES = 1 << 22


def permutations(n_stories: int, n: int, seed: int) -> Int[np.ndarray, "permutation story"]:
    """Permutations of the stories, a pure function of the seed."""
    draw = generator(seed, "label permutations")
    return np.stack([draw.permutation(n_stories) for _ in range(n)])


def null_maxima(
    features: Float[np.ndarray, "story feature"],
    contrast: Contrast,
    orders: Int[np.ndarray, "permutation story"],
    eligible: Bool[np.ndarray, "feature"],
) -> Float[np.ndarray, "permutation emotion"]:
    """The largest z over the eligible features for every permutation and emotion; -inf where no feature is eligible."""
    values = standardised(features[:, eligible])
    n, stories = contrast.n_emotions, len(contrast.labels)
    if values.shape[1] == 0:
        return np.full((len(orders), n), -np.inf, dtype=np.float32)
    error = contrast.standard_error().astype(np.float32)
    weights = (1.0 / contrast.counts).astype(np.float32)
    maxima = np.empty((len(orders), n), dtype=np.float32)
    size = max(1, BATCH_VALUES // (n * values.shape[1]))
    for start in range(0, len(orders), size):
        labels = contrast.labels[orders[start : start + size]]
        emotion = (labels + np.arange(len(labels))[:, None] * n).ravel()
        story = np.tile(np.arange(stories), len(labels))
        averages = sparse.csr_matrix((weights[labels.ravel()], (emotion, story)), shape=(len(labels) * n, stories))
        means = (averages @ values).reshape(len(labels), n, -1)
        maxima[start : start + size] = against_others(means).max(axis=2) / error
    return maxima


def family_wise_p(
    z: Float[np.ndarray, "emotion feature"], maxima: Float[np.ndarray, "permutation emotion"]
) -> Float[np.ndarray, "emotion feature"]:
    """(1 + permutations whose maximum reaches z) / (1 + permutations)."""
    ordered = np.sort(maxima, axis=0)
    below = np.stack([np.searchsorted(ordered[:, e], z[e] * (1 - 1e-6), side="left") for e in range(len(z))])
    return (1 + len(maxima) - below) / (1 + len(maxima))


def q_values(
    p: Float[np.ndarray, "candidate"], emotions: Int[np.ndarray, "candidate"], best: Float[np.ndarray, "emotion"]
) -> Float[np.ndarray, "candidate"]:
    """Benjamini–Hochberg across emotions: the q-value the candidate's emotion would have were this its best feature.

    Args:
        p: family-wise p of each candidate.
        emotions: emotion of each candidate.
        best: smallest p of every emotion.
    """
    known = {}
    for value, emotion in zip(p.tolist(), emotions.tolist(), strict=True):
        if (value, emotion) not in known:
            others = np.delete(best, emotion)
            levels = np.unique(np.concatenate([[value], others[others >= value]]))
            counts = np.searchsorted(np.sort(others), levels, side="right") + 1
            known[value, emotion] = min(1.0, float((levels * len(best) / counts).min()))
    return np.array([known[pair] for pair in zip(p.tolist(), emotions.tolist(), strict=True)], dtype=np.float64)
