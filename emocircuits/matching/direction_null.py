"""What the largest decoder cosine is worth: random directions whose best feature looks like a match.

Three nulls, `n` directions each, the maximum of the cosine over all eligible features: `isotropic`
directions, `covariance` ones drawn with the covariance of the story means, and `permuted` ones, the contrast
of stories whose labels were permuted. Directions of permuted labels lie in the dictionary's favoured
subspace, so a test against isotropic ones passes far too many of them: `false_positives` says how many.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.decoder_cosine import unit
from emocircuits.matching.permutation import permuted_contrasts
from emocircuits.numerics import generator

KINDS = ("isotropic", "covariance", "permuted")
BATCH = 256


@dataclass(frozen=True, eq=False)
class DirectionNull:
    """The null of the largest cosine at one site.

    Attributes:
        maxima: largest cosine over the eligible features for each kind and random direction; -inf without
            eligible features.
        p_value: for each emotion, share of `covariance` directions whose largest cosine reaches its own.
        false_positives: share of `permuted` directions beyond the 95 % quantile of the `isotropic` and of the
            `covariance` ones.
    """

    maxima: Float[np.ndarray, "kind draw"]
    p_value: Float[np.ndarray, "emotion"]
    false_positives: Float[np.ndarray, "two"]


def direction_null(
    stream: Float[np.ndarray, "story d_model"],
    contrast: StoryContrast,
    decoder: Float[np.ndarray, "feature d_model"],
    directions: Float[np.ndarray, "emotion d_model"],
    eligible: Bool[np.ndarray, "feature"],
    orders: Int[np.ndarray, "permutation story"],
    seed: int,
) -> DirectionNull:
    """Draws one direction of each kind for every permutation; the permuted one is that of each emotion in
    turn.
    """
    rows = unit(decoder[eligible])
    if not len(rows):
        return DirectionNull(
            np.full((len(KINDS), len(orders)), -np.inf), np.ones(len(directions)), np.zeros(2)
        )
    draw = generator(seed, "random directions of a match").standard_normal((len(orders), stream.shape[1]))
    values, vectors = np.linalg.eigh(
        np.cov(stream.astype(np.float64), rowvar=False).reshape(stream.shape[1], -1)
    )
    coloured = (draw * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    maxima = np.stack(
        [(unit(many) @ rows.T).max(axis=1) for many in (draw, coloured, _permuted(stream, contrast, orders))]
    )
    own = (np.asarray(directions, dtype=np.float64) @ rows.T).max(axis=1)
    p_value = (1 + (maxima[1] >= own[:, None]).sum(axis=1)) / (1 + len(orders))
    limits = np.quantile(maxima[:2], 0.95, axis=1)
    return DirectionNull(maxima, p_value, (maxima[2] > limits[:, None]).mean(axis=1))


def _permuted(
    stream: Float[np.ndarray, "story d_model"],
    contrast: StoryContrast,
    orders: Int[np.ndarray, "permutation story"],
) -> Float[np.ndarray, "draw d_model"]:
    found = []
    for start in range(0, len(orders), BATCH):
        every = permuted_contrasts(stream, contrast, orders[start : start + BATCH]).numpy()
        turn = np.arange(start, start + len(every))
        found.append(every[turn - start, turn % contrast.n_emotions])
    return np.concatenate(found).astype(np.float64)
