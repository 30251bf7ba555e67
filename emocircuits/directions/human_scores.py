"""How well directions tell apart the emotions of texts that people labelled.

Each emotion's column of projections ranks its own texts against those of the other emotions (AUROC). The mean
over emotions stands next to two nulls: the same projections with the labels permuted over the texts, and as
many random directions, isotropic ones and ones with the covariance of the texts, which point where texts vary
anyway.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from emocircuits.directions.validation import AurocIntervals, auroc_intervals, one_vs_others_auroc
from emocircuits.io.documents import read_json, write_json
from emocircuits.numerics import generator
from emocircuits.settings import check, setting

DRAWS_AT_ONCE = 50
FILE, SCHEMA, VERSION = "human_text.json", "emocircuits.human-text", 1


@dataclass(frozen=True)
class HumanSettings:
    """How directions are scored on texts of people."""

    from_token: int = setting(
        1,
        "first token of a text that counts; texts are short, so only position 0, the sink, is left out",
        unit="tokens",
        least=1,
    )
    least: int = setting(20, "fewest texts of an emotion", unit="texts", least=4)
    components: tuple[int, ...] = setting(
        (0, 10, 20, 40, 80), "how many principal components of neutral text are projected out", least=0
    )
    max_norm: float = setting(
        3.0, "tokens longer than this multiple of the mean residual norm are left out", above=1
    )
    permutations: int = setting(1000, "permutations of the labels", least=20)
    bootstrap: int = setting(1000, "resamples of the texts behind the intervals of means", least=20)
    random_sets: int = setting(200, "sets of random directions of each kind", least=20)
    seed: int = setting(0, "seed of everything random")

    def __post_init__(self) -> None:
        check(self, "human")


@dataclass(frozen=True, eq=False)
class HumanScore:
    """AUROCs of one set of directions, and what is reached by chance.

    Attributes:
        auroc: per emotion, with intervals (DeLong).
        low, high: 95 % bootstrap interval over texts of the mean over emotions.
        draws: that mean in every resample.
        shuffled: the mean for every permutation of the labels.
        random: the mean for every set of isotropic random directions.
        matched: the mean for every set of random directions with the covariance of the texts.
    """

    auroc: AurocIntervals
    low: float
    high: float
    draws: Float[np.ndarray, "draw"]
    shuffled: Float[np.ndarray, "permutation"]
    random: Float[np.ndarray, "set"]
    matched: Float[np.ndarray, "set"]

    def row(self) -> dict[str, float]:
        """The mean with its interval, and of every null the 95th percentile and the largest mean; `p_value`
        is the share of permutations that reach the mean, itself among them.
        """
        mean = self.auroc.mean
        nulls = {"shuffled": self.shuffled, "random": self.random, "matched": self.matched}
        return {
            "auroc": mean,
            "auroc_low": self.low,
            "auroc_high": self.high,
            "p_value": (1 + int((self.shuffled >= mean - 1e-12).sum())) / (1 + len(self.shuffled)),
            **{
                f"{name}_{part}": value
                for name, values in nulls.items()
                for part, value in (("p95", float(np.quantile(values, 0.95))), ("max", float(values.max())))
            },
        }


def human_score(
    texts: Float[np.ndarray, "text d_model"],
    labels: Int[np.ndarray, "text"],
    vectors: Float[np.ndarray, "emotion d_model"],
    how: HumanSettings,
    basis: Float[np.ndarray, "d_model component"] | None = None,
) -> HumanScore:
    """Scores directions on texts.

    Args:
        texts: mean residual of every text.
        labels: the emotion of every text, a row of `vectors`.
        vectors: a direction for each emotion.
        how: numbers of draws, and their seed.
        basis: orthonormal columns that are projected out of the directions, and of the random ones.
    """
    texts = texts.astype(np.float64)
    scores = texts @ without(vectors.astype(np.float64), basis).T
    draws = bootstrap_means(scores, labels, n=how.bootstrap, seed=how.seed)
    low, high = np.quantile(draws, [0.025, 0.975])
    chance = {
        kind: random_means(texts, labels, basis, matched=kind == "matched", n=how.random_sets, seed=how.seed)
        for kind in ("random", "matched")
    }
    return HumanScore(
        auroc_intervals(scores, labels),
        float(low),
        float(high),
        draws,
        shuffled_means(scores, labels, n=how.permutations, seed=how.seed),
        **chance,
    )


def without(
    vectors: Float[np.ndarray, "vector d_model"], basis: Float[np.ndarray, "d_model component"] | None
) -> Float[np.ndarray, "vector d_model"]:
    """Vectors with orthonormal columns projected out."""
    return vectors if basis is None else vectors - (vectors @ basis) @ basis.T


def resampled_aurocs(
    scores: Float[np.ndarray, "text emotion"],
    labels: Int[np.ndarray, "text"],
    weights: Float[np.ndarray, "draw text"],
) -> Float[np.ndarray, "draw emotion"]:
    """`one_vs_others_auroc` with every text counted as often as a draw says; ties count one half."""
    found = np.empty((len(weights), scores.shape[1]))
    for column in range(scores.shape[1]):
        order = np.argsort(scores[:, column], kind="stable")
        ordered, own = scores[order, column], labels[order] == column
        others = np.zeros((len(weights), len(order) + 1))
        np.cumsum(np.where(own, 0.0, weights[:, order]), axis=1, out=others[:, 1:])
        below, upto = (np.searchsorted(ordered, ordered[own], side=side) for side in ("left", "right"))
        counted = weights[:, order[own]]
        wins = (counted * (others[:, below] + others[:, upto]) / 2).sum(axis=1)
        found[:, column] = wins / (counted.sum(axis=1) * others[:, -1])
    return found


def bootstrap_means(
    scores: Float[np.ndarray, "text emotion"], labels: Int[np.ndarray, "text"], *, n: int, seed: int
) -> Float[np.ndarray, "draw"]:
    """The mean AUROC in resamples of the texts, each emotion's texts among themselves."""
    return np.concatenate(
        [resampled_aurocs(scores, labels, weights).mean(axis=1) for weights in _resamples(labels, n, seed)]
    )


def _resamples(labels: Int[np.ndarray, "text"], n: int, seed: int) -> Iterator[np.ndarray]:
    for start in range(0, n, DRAWS_AT_ONCE):
        source = generator(seed, "human-bootstrap", start)
        weights = np.zeros((min(DRAWS_AT_ONCE, n - start), len(labels)))
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            weights[:, own] = source.multinomial(len(own), np.full(len(own), 1 / len(own)), len(weights))
        yield weights


def shuffled_means(
    scores: Float[np.ndarray, "text emotion"], labels: Int[np.ndarray, "text"], *, n: int, seed: int
) -> Float[np.ndarray, "permutation"]:
    """The mean AUROC of the same projections with the labels permuted over the texts."""
    ranks, source = rankdata(scores, axis=0), generator(seed, "human-shuffle")
    ordered = np.sort(labels)
    counts = np.bincount(labels, minlength=scores.shape[1]).astype(np.float64)
    means = np.empty(n)
    for draw in range(n):
        sums = np.bincount(ordered, ranks[source.permutation(len(labels)), ordered], len(counts))
        means[draw] = np.mean((sums - counts * (counts + 1) / 2) / (counts * (len(labels) - counts)))
    return means


def random_means(
    texts: Float[np.ndarray, "text d_model"],
    labels: Int[np.ndarray, "text"],
    basis: Float[np.ndarray, "d_model component"] | None,
    *,
    matched: bool,
    n: int,
    seed: int,
) -> Float[np.ndarray, "set"]:
    """The mean AUROC of sets of random directions, one for each emotion.

    Args:
        texts: mean residual of every text.
        labels: the emotion of every text.
        basis: what is projected out of the directions.
        matched: drawn with the covariance of the texts instead of isotropic.
        n: number of sets.
        seed: their seed.
    """
    source = generator(seed, "human-random", int(matched))
    spread = texts - texts.mean(axis=0) if matched else None
    n_emotions, means = int(labels.max()) + 1, np.empty(n)
    for draw in range(n):
        if spread is None:
            vectors = source.standard_normal((n_emotions, texts.shape[1]))
        else:
            vectors = source.standard_normal((n_emotions, len(texts))) @ spread
        means[draw] = one_vs_others_auroc(texts @ without(vectors, basis).T, labels).mean()
    return means


def two_halves(labels: Int[np.ndarray, "text"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the texts of two random halves, equal in every emotion up to one text."""
    source, halves = generator(seed, "human-halves"), ([], [])
    for label in np.unique(labels):
        own = source.permutation(np.flatnonzero(labels == label))
        for half, part in zip(halves, (own[::2], own[1::2]), strict=True):
            half.append(part)
    first, second = (np.sort(np.concatenate(half)) for half in halves)
    return first, second


def write_human_text(directory: Path, document: dict[str, Any]) -> None:
    """Writes what was measured on texts of people into a run."""
    write_json(directory / FILE, document, schema=SCHEMA, version=VERSION)


def read_human_text(directory: Path) -> dict[str, Any] | None:
    """What was measured on texts of people, or None where nothing was.

    Raises:
        UserError: the file is broken, or of a newer version.
    """
    path = directory / FILE
    return read_json(path, schema=SCHEMA, version=VERSION) if path.is_file() else None
