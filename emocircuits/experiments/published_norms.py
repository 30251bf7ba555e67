"""Directions against valence and arousal as people rated the words (the norms of the lexicon that have a
published source; the lexicon's own judgements are left out).

Two readings of a site. `component`: the one of the first three principal components of the directions that
correlates best, |r|; components are of all emotions. `ridge`: the norm of every emotion predicted by a ridge
regression on the directions of the others (penalty: their mean variance), correlation of prediction and norm;
without any relation this r is below 0, because a mean that leaves a value out lies on its other side.

p is the share of permutations of the norms over the emotions that reach the r, all of them where there are
few enough; the choice among three components is made again in every permutation. So p cannot be smaller than
`smallest_p`, whatever the directions hold.
"""

from collections.abc import Sequence
from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from emocircuits.experiments.geometry import principal_components
from emocircuits.numerics import fisher_interval, generator
from emocircuits.organism.world import APPRAISALS, lexicon

COORDINATES = ("valence", "arousal")
JUDGEMENT = "judgement"
FEWEST = 4
COMPONENTS = 3
COLUMNS = ("coordinate", "reading", "component", "r", "ci_low", "ci_high", "p_value", "smallest_p", "n")


def published_norms(coordinate: str) -> dict[str, float]:
    """Emotion -> its published valence or arousal, -1 to 1; emotions without one are absent."""
    known, column = lexicon(), APPRAISALS.index(coordinate)
    return {
        emotion: float(values[column])
        for emotion, values in zip(known.emotions, known.coordinates, strict=True)
        if known.sources[emotion][coordinate] not in ("", JUDGEMENT)
    }


def norm_table(
    vectors: Float[np.ndarray, "emotion d_model"],
    emotions: Sequence[str],
    *,
    n_permutations: int = 5040,
    seed: int = 0,
) -> pd.DataFrame:
    """Both readings of valence and of arousal.

    Args:
        vectors: one direction per emotion, at its own length.
        emotions: their names.
        n_permutations: permutations at most; all of them where there are no more.
        seed: seed of the permutations.

    Returns:
        `COLUMNS`, one row per coordinate and reading; no r, interval and p where fewer than four emotions
        have a published norm, nor where all of these are equal. The interval is Fisher's and knows nothing of
        the choice of a component.
    """
    rows = []
    for coordinate in COORDINATES:
        norms = published_norms(coordinate)
        known = [row for row, emotion in enumerate(emotions) if emotion in norms]
        values = np.array([norms[emotions[row]] for row in known])
        if len(known) < FEWEST or np.ptp(values) == 0:
            rows += [(coordinate, reading, *[None] * 6, len(known)) for reading in ("component", "ridge")]
            continue
        drawn = values[_permutations(len(known), n_permutations, seed)]
        scores = principal_components(vectors, COMPONENTS).scores[known]
        by_component = np.abs([_correlations(drawn, scores[:, c]) for c in range(scores.shape[1])])
        best = int(by_component[:, 0].argmax())
        predicted = _correlations(drawn, left_out_ridge(vectors[known], drawn))
        rows.append(
            (coordinate, "component", best + 1, *_scored(by_component.max(axis=0), len(known)), len(known))
        )
        rows.append((coordinate, "ridge", None, *_scored(predicted, len(known)), len(known)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def left_out_ridge(
    vectors: Float[np.ndarray, "emotion d_model"], values: Float[np.ndarray, "draw emotion"]
) -> Float[np.ndarray, "draw emotion"]:
    """Every value predicted from the vectors and values of the other emotions, by ridge regression with a
    constant.

    The penalty is the sum of squared lengths around the mean over one less than their number, the same
    whichever emotion is left out. So the left-out residual is the residual over 1 - h (Allen 1974), where h
    is the emotion's weight in its own fit.
    """
    n = len(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    products = centred @ centred.T
    penalty = np.trace(products) / (n - 1)
    fit = 1 / n + np.linalg.solve(products + penalty * np.eye(n), products)
    return values - (values - values @ fit.T) / (1 - np.diag(fit))


def _permutations(n: int, most: int, seed: int) -> Int[np.ndarray, "draw emotion"]:
    """Permutations of n things, the identity first: all of them where that is no more than `most`."""
    if factorial(n) <= most:
        return np.array(list(permutations(range(n))))
    source = generator(seed, "norms", n)
    return np.array([np.arange(n), *(source.permutation(n) for _ in range(most - 1))])


def _correlations(
    drawn: Float[np.ndarray, "draw emotion"], other: Float[np.ndarray, "*draw emotion"]
) -> Float[np.ndarray, "draw"]:
    """Pearson r of each draw with one set of numbers, or with its own; 0 where either does not vary."""
    left, right = (values - values.mean(axis=-1, keepdims=True) for values in (drawn, other))
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.divide((left * right).sum(axis=-1), lengths, out=np.zeros(len(drawn)), where=lengths > 0)


def _scored(r: Float[np.ndarray, "draw"], n: int) -> tuple[float, float, float, float, float]:
    """r of the norms as they are (the first draw), its interval, p and the smallest p there can be."""
    low, high = fisher_interval(float(r[0]), n)
    return float(r[0]), low, high, float((r >= r[0] - 1e-12).mean()), 1 / len(r)
