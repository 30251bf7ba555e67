"""Directions that carry no emotion, made as carefully as those that do: without them no causal claim means
anything.

`random` are isotropic. `covariance` are random too, but drawn with the covariance of stories within emotions,
so that they point where residual streams really vary. `content` are directions of everyday topics and
`shuffled` those of emotions with the labels permuted over whole stories, both by the estimator that made the
emotion directions.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emocircuits.artifacts.directions import ControlDirections
from emocircuits.errors import UserError, unknown
from emocircuits.numerics import generator


def unit_rows(raw: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest d_model"]:
    """Rows scaled to length 1, float32.

    Raises:
        UserError: a row is zero.
    """
    lengths = np.linalg.norm(raw, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise UserError(
            "a direction is zero",
            cure="the classes do not differ at some site, or every component was projected out",
        )
    return (raw / lengths).astype(np.float32)


def random_directions(n_sites: int, d_model: int, *, n: int, seed: int) -> ControlDirections:
    """Isotropic unit directions, drawn apart for every site."""
    rows = [
        generator(seed, "random-directions", site).standard_normal((n, d_model)) for site in range(n_sites)
    ]
    return ControlDirections(tuple(f"random {number}" for number in range(n)), unit_rows(np.stack(rows)))


def choose_topics(
    topics: Sequence[str], counts: Sequence[int], wanted: Sequence[str] | None, n: int
) -> tuple[str, ...]:
    """The topics of the content directions: those asked for, else the `n` with the most stories (ties by
    name).

    Raises:
        UserError: fewer than two topics in the store, or a topic that is not there.
    """
    if len(topics) < 2:
        raise UserError(
            "the stories have fewer than two topics",
            cure="label the stories' topics: content directions are learned from them",
        )
    if wanted is None:
        return tuple(
            topics[index]
            for index in sorted(range(len(topics)), key=lambda index: (-counts[index], topics[index]))[:n]
        )
    for topic in wanted:
        if topic not in topics:
            raise unknown("topic", topic, topics)
    return tuple(wanted)
