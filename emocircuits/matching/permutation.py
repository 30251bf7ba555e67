"""The null of a match: labels permuted over whole stories, the largest z over all features.

Tokens of one story are not independent, so stories are permuted, not tokens. Taking the maximum over every
feature of every site makes p family-wise (Westfall & Young 1993, single step): the chance that any feature at
all would look this good.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn.functional import embedding_bag

from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.standardised_delta import standardised
from emocircuits.numerics import generator

WIDTH, BATCH_VALUES = 128, 1 << 19  # columns and values at a time: small enough for the processor's cache


def permutations(n_stories: int, n: int, seed: int) -> Int[np.ndarray, "permutation story"]:
    """Permutations of the stories, a pure function of the seed: each row deals the stories out to the
    emotions in their order.
    """
    draw = generator(seed, "label permutations")
    return np.stack([draw.permutation(n_stories) for _ in range(n)]).astype(np.int32)


def permuted_contrasts(
    values: Float[np.ndarray, "story width"],
    contrast: StoryContrast,
    orders: Int[np.ndarray, "permutation story"],
) -> Float[torch.Tensor, "permutation emotion width"]:
    """The contrast of all emotions under every permutation, float32.

    A product with the matrix (permutation × emotion, story) that takes means. It has one entry per story and
    permutation, so each of its rows is a sum over the stories dealt to one emotion: the first ones of the
    order to the first emotion, as many as it has, and so on.
    """
    n = contrast.n_emotions
    starts = np.cumsum(contrast.counts) - contrast.counts
    offsets = (np.arange(len(orders))[:, None] * len(contrast.labels) + starts).astype(np.int32)
    table = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    stories = torch.from_numpy(np.ascontiguousarray(orders, dtype=np.int32).ravel())
    means = embedding_bag(stories, table, torch.from_numpy(offsets.ravel()), mode="mean").view(
        len(orders), n, -1
    )
    return means.sub_(means.mean(dim=1, keepdim=True)).mul_(n / (n - 1))


@torch.no_grad()
def null_maxima(
    features: Float[np.ndarray, "story feature"],
    contrast: StoryContrast,
    orders: Int[np.ndarray, "permutation story"],
    eligible: Bool[np.ndarray, "feature"],
) -> Float[np.ndarray, "permutation emotion"]:
    """The largest z over the eligible features for every permutation and emotion; -inf where no feature is
    eligible.
    """
    values = standardised(features[:, eligible])
    maxima = torch.full((len(orders), contrast.n_emotions), -torch.inf)
    size = max(1, BATCH_VALUES // (contrast.n_emotions * WIDTH))
    for first in range(0, values.shape[1], WIDTH):
        columns = np.ascontiguousarray(values[:, first : first + WIDTH])
        for start in range(0, len(orders), size):
            here = slice(start, start + size)
            maxima[here] = torch.maximum(
                maxima[here], permuted_contrasts(columns, contrast, orders[here]).amax(dim=2)
            )
    return (maxima.numpy() / contrast.standard_error()).astype(np.float32)


def family_wise_p(
    z: Float[np.ndarray, "emotion feature"], maxima: Float[np.ndarray, "permutation emotion"]
) -> Float[np.ndarray, "emotion feature"]:
    """(1 + permutations whose maximum reaches z) / (1 + permutations)."""
    ordered = np.sort(maxima, axis=0)
    below = np.stack([np.searchsorted(ordered[:, e], z[e] * (1 - 1e-6), side="left") for e in range(len(z))])
    return (1 + len(maxima) - below) / (1 + len(maxima))


def q_values(
    p: Float[np.ndarray, "candidate"],
    emotions: Int[np.ndarray, "candidate"],
    best: Float[np.ndarray, "emotion"],
) -> Float[np.ndarray, "candidate"]:
    """Benjamini–Hochberg across emotions: the q-value the candidate's emotion would have were this its best
    feature.

    Args:
        p: family-wise p of each candidate.
        emotions: emotion of each candidate.
        best: smallest p of every emotion.
    """
    q, n = np.ones(len(p)), len(best)
    for emotion in np.unique(emotions):
        others = np.sort(np.delete(best, emotion))
        counts = np.searchsorted(others, others, side="right") + 1
        # smallest level at or after each other emotion
        later = np.minimum.accumulate((others * n / counts)[::-1])[::-1]
        mine = np.flatnonzero(emotions == emotion)
        own = p[mine] * n / (np.searchsorted(others, p[mine], side="right") + 1)
        after = np.append(later, np.inf)[np.searchsorted(others, p[mine], side="left")]
        q[mine] = np.minimum(1.0, np.minimum(own, after))
    return q
