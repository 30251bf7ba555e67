"""What direction estimators are made from: weighted means of labelled stories, gathered in one pass over a
site.

Every linear direction is a weighted sum of story means with weights that the labels fix before anything is
read: class means, means of permuted classes, of half the stories, of bootstrap replicates, and the
covariance-matched random controls. So all of them are accumulated together while the site is read, by matrix
products, and memory does not grow with the number of stories. Replicates are Bayesian bootstraps (Rubin
1981): every story gets an exponential weight, so no class is ever empty.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.directions.story_blocks import CHUNK, SiteMoments, StoryPlan, read_site
from emocircuits.numerics import generator


@dataclass(frozen=True, eq=False)
class LabelledStories:
    """Story means of one site with labels and weights, for estimators that must see each story."""

    means: Float[np.ndarray, "story d_model"]
    labels: Int[np.ndarray, "story"]
    weights: Float[np.ndarray, "story"]


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Means of labelled stories at one site; leading axes are draws (replicates, permutations), none for the
    stories as they are.

    Attributes:
        means: mean of each class.
        weights: total weight of each class.
        within_cov: covariance of stories around their class means, pooled over classes (that of the stories
            as they are).
        neutral_mean, neutral_cov: of neutral text.
        topic_share: P(topic | class) of the stories, or None where they have no topics.
        topic_means: mean of each topic.
        stories: the stories themselves, only where the estimator asks for them.
    """

    means: Float[np.ndarray, "*draw label d_model"]
    weights: Float[np.ndarray, "*draw label"]
    within_cov: Float[np.ndarray, "d_model d_model"]
    neutral_mean: Float[np.ndarray, "d_model"]
    neutral_cov: Float[np.ndarray, "d_model d_model"]
    topic_share: Float[np.ndarray, "label topic"] | None = None
    topic_means: Float[np.ndarray, "topic d_model"] | None = None
    stories: LabelledStories | None = None


@dataclass(frozen=True, eq=False)
class Design:
    """Which story counts for what; codes are -1 where a story does not count.

    Attributes:
        labels: emotion of each story to learn from.
        held_out: emotion of each story to score on.
        topics: topic of each story to learn from.
        permuted: labels permuted over the stories to learn from.
        halves: 0 or 1 for each story to learn from, balanced within emotions.
        n_labels, n_topics: numbers of emotions and topics.
        n_bootstrap: bootstrap replicates.
        n_random: covariance-matched random directions.
        keep_stories: keep the story means of the site (memory: stories × d_model).
        seed: seed of every random weight.
        chunk: stories that random weights are drawn for together.
    """

    labels: Int[np.ndarray, "story"]
    held_out: Int[np.ndarray, "story"]
    topics: Int[np.ndarray, "story"]
    permuted: Int[np.ndarray, "shuffle story"]
    halves: Int[np.ndarray, "split story"]
    n_labels: int
    n_topics: int
    n_bootstrap: int = 0
    n_random: int = 0
    keep_stories: bool = False
    seed: int = 0
    chunk: int = CHUNK


@dataclass(frozen=True, eq=False)
class SiteStatistics:
    """Everything one pass over a site gives.

    Attributes:
        emotions: class statistics of the emotions.
        shuffled: the same with permuted labels; first axis shuffle.
        topics: of the topics, or None.
        halves: axes split and half.
        replicates: first axis replicate.
        random: sums of stories around their class means with Gaussian weights: draws from N(0, within_cov) up
            to a factor.
        total_mean, total_cov: over all stories to learn from.
        held_out: means of the held-out stories (see `Design.held_out`), in the order of the store.
        moments: neutral text and norms.
    """

    emotions: ClassStatistics
    shuffled: ClassStatistics
    topics: ClassStatistics | None
    halves: ClassStatistics
    replicates: ClassStatistics
    random: Float[np.ndarray, "random d_model"]
    total_mean: Float[np.ndarray, "d_model"]
    total_cov: Float[np.ndarray, "d_model d_model"]
    held_out: Float[np.ndarray, "held d_model"]
    moments: SiteMoments


def site_statistics(store: ActivationStore, plan: StoryPlan, site: str, design: Design) -> SiteStatistics:
    """Reads one site once and sums it up; `design` says how."""
    width, n_labels, n_splits = store.d_model, design.n_labels, len(design.halves)
    sums = np.zeros((1 + len(design.permuted), n_labels, width))
    topic_sums = np.zeros((design.n_topics, width))
    drawn = np.zeros((2 * n_splits + design.n_bootstrap, n_labels, width), dtype=np.float32)
    drawn_weights = np.zeros(drawn.shape[:2])
    random, random_weights = np.zeros((design.n_random, width)), np.zeros((design.n_random, n_labels))
    second = np.zeros((width, width))
    held, kept = [], []

    def take(first: int, means: Float[np.ndarray, "block d_model"]) -> None:
        nonlocal second, random, random_weights
        here = slice(first, first + len(means))
        held.append(means[design.held_out[here] >= 0])
        fit = np.flatnonzero(design.labels[here] >= 0)
        x, labels = means[fit], design.labels[here][fit]
        if design.keep_stories:
            kept.append(x)
        for labelling, codes in enumerate((design.labels, *design.permuted)):
            sums[labelling] += _one_hot(codes[here][fit], n_labels) @ x.astype(np.float64)
        topic_sums[:] += _one_hot(design.topics[here][fit], design.n_topics) @ x.astype(np.float64)
        second += x.astype(np.float64).T @ x.astype(np.float64)
        weights = _draw_weights(design, first, len(means))[fit]
        order = np.argsort(labels, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            if len(group):
                drawn[:, labels[group[0]]] += weights[group].T @ x[group]
                drawn_weights[:, labels[group[0]]] += weights[group].sum(axis=0)
        if design.n_random:
            noise = generator(design.seed, "covariance-random", first // design.chunk).standard_normal(
                (len(means), design.n_random)
            )[fit]
            random += noise.T @ x
            random_weights += (_one_hot(labels, n_labels) @ noise).T

    moments = read_site(store, plan, site, take, chunk=design.chunk)
    counts = np.bincount(design.labels[design.labels >= 0], minlength=n_labels).astype(np.float64)
    scale, n = moments.scale, counts.sum()
    means, second = scale * sums / counts[:, None], scale**2 * second / n
    total_mean = counts @ means[0] / n
    shares = {"topic_share": None, "topic_means": None}
    topic_counts = np.bincount(design.topics[design.topics >= 0], minlength=design.n_topics).astype(
        np.float64
    )
    if design.n_topics:
        both = (design.topics >= 0) & (design.labels >= 0)
        table = np.zeros((n_labels, design.n_topics))
        np.add.at(table, (design.labels[both], design.topics[both]), 1.0)
        shares = {
            "topic_share": table / np.maximum(table.sum(axis=1, keepdims=True), 1),
            "topic_means": scale * topic_sums / topic_counts[:, None],
        }
    common = {
        "within_cov": second
        - np.einsum("ed,ef->df", means[0] * (counts / n)[:, None], means[0], optimize=True),
        "neutral_mean": moments.neutral_mean,
        "neutral_cov": moments.neutral_cov,
    }
    drawn *= scale
    drawn /= np.maximum(drawn_weights, np.finfo(np.float64).tiny)[..., None].astype(np.float32)
    stories = None
    if design.keep_stories:
        stories = LabelledStories(
            scale * np.concatenate(kept), design.labels[design.labels >= 0], np.ones(int(n))
        )

    def halves(array: np.ndarray) -> np.ndarray:
        return array[: 2 * n_splits].reshape(n_splits, 2, *array.shape[1:])

    return SiteStatistics(
        emotions=ClassStatistics(means[0], counts, **common, **shares, stories=stories),
        shuffled=ClassStatistics(means[1:], np.broadcast_to(counts, means[1:].shape[:2]), **common, **shares),
        topics=ClassStatistics(shares["topic_means"], topic_counts, **common) if design.n_topics else None,
        halves=ClassStatistics(halves(drawn), halves(drawn_weights), **common, **shares),
        replicates=ClassStatistics(drawn[2 * n_splits :], drawn_weights[2 * n_splits :], **common, **shares),
        random=scale * random - random_weights @ means[0],
        total_mean=total_mean,
        total_cov=second - np.outer(total_mean, total_mean),
        held_out=(scale * np.concatenate(held)).astype(np.float32),
        moments=moments,
    )


def replicate_weights(design: Design, first: int, count: int) -> Float[np.ndarray, "story replicate"]:
    """Exponential bootstrap weights of the stories of one chunk; a pure function of seed and chunk."""
    return generator(design.seed, "bootstrap", first // design.chunk).standard_exponential(
        (count, design.n_bootstrap), dtype=np.float32
    )


def _draw_weights(design: Design, first: int, count: int) -> Float[np.ndarray, "story draw"]:
    """Weights of all halves (0 or 1), then of all replicates."""
    half = design.halves[:, first : first + count].T
    halves = np.stack([half == 0, half == 1], axis=2).reshape(count, -1).astype(np.float32)
    return np.concatenate([halves, replicate_weights(design, first, count)], axis=1)


def _one_hot(codes: Int[np.ndarray, "story"], n: int) -> sparse.csr_matrix:
    """(class, story) with 1 where a story belongs to a class."""
    known = np.flatnonzero(codes >= 0)
    return sparse.csr_matrix((np.ones(len(known)), (codes[known], known)), shape=(n, len(codes)))
