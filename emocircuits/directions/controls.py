"""Directions that carry no emotion, made as carefully as those that do: without them no causal claim means anything."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from emocircuits.artifacts.emotion_directions import ControlDirections
from emocircuits.directions.estimator import Estimator
from emocircuits.directions.summaries import StoreSummary
from emocircuits.errors import UserError, unknown
from emocircuits.numerics import generator


def unit_rows(raw: Float[np.ndarray, "site name d_model"]) -> Float[np.ndarray, "site name d_model"]:
    """Rows scaled to length 1, float32.

    Raises:
        UserError: a row is zero.
    """
    lengths = np.linalg.norm(raw, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise UserError("a direction is zero", cure="the classes do not differ at some site, or every component was projected out")
    return (raw / lengths).astype(np.float32)


def random_directions(n_sites: int, d_model: int, *, n: int, seed: int) -> ControlDirections:
    """Isotropic unit directions, drawn apart for every site."""
    rows = [generator(seed, "random-directions", site).standard_normal((n, d_model)) for site in range(n_sites)]
    return ControlDirections(tuple(f"random {number}" for number in range(n)), unit_rows(np.stack(rows)))


def content_directions(
    summary: StoreSummary, stories: Int[np.ndarray, "fit"], estimator: Estimator, *,
    topics: Sequence[str] | None, n: int, neutral_variance: float,
) -> ControlDirections:
    """Directions of everyday topics, learned from the same stories by the same estimator.

    Args:
        summary: statistics of the store.
        stories: stories to learn from.
        estimator: the estimator.
        topics: names of the topics; None takes the `n` with the most stories (ties by name).
        n: how many when `topics` is None.
        neutral_variance: as for the emotions.

    Raises:
        UserError: fewer than two topics in the store, or a topic that is not there.
    """
    labels = summary.stories["topic"].to_numpy()[stories]
    known, codes, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    if len(known) < 2:
        raise UserError("the stories have fewer than two topics", cure="label the stories' topics: content directions are learned from them")
    order = sorted(range(len(known)), key=lambda index: (-counts[index], known[index]))
    wanted = list(topics) if topics is not None else [str(known[index]) for index in order if known[index]][:n]
    for topic in wanted:
        if topic not in known:
            raise unknown("topic", topic, map(str, known))
    raw, _ = estimator(summary, stories, codes, len(known), neutral_variance=neutral_variance)
    index = [int(np.flatnonzero(known == topic)[0]) for topic in wanted]
    return ControlDirections(tuple(wanted), unit_rows(raw[:, index]))


def shuffled_directions(
    summary: StoreSummary, stories: Int[np.ndarray, "fit"], labels: Int[np.ndarray, "fit"], n_classes: int,
    estimator: Estimator, *, emotion: int, emotion_name: str, n: int, seed: int, neutral_variance: float,
) -> ControlDirections:
    """The direction of one emotion with the labels permuted over whole stories, `n` times."""
    rows = []
    for number in range(n):
        mixed = generator(seed, "shuffled-labels", number).permutation(labels)
        raw, _ = estimator(summary, stories, mixed, n_classes, neutral_variance=neutral_variance)
        rows.append(raw[:, emotion])
    return ControlDirections(tuple(f"{emotion_name} shuffled {number}" for number in range(n)), unit_rows(np.stack(rows, axis=1)))
