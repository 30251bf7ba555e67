"""How directions are learned, and which sites that concerns."""

from dataclasses import dataclass

import numpy as np

from emocircuits.directions.confounds import REFUSE
from emocircuits.errors import UserError


@dataclass(frozen=True)
class DirectionSettings:
    """How directions are learned.

    Attributes:
        emotions: which emotions; None means all that the stories show.
        estimator: name of the estimator.
        from_token: first token of a story that counts (the paper: 50).
        neutral_variance: share of neutral variance projected out (the paper: 0.5).
        centre: what is taken off a class mean (see `EstimatorOptions`; the paper: the mean over emotions).
        penalty: ridge of discriminant and probes (see `EstimatorOptions`).
        token_norm: scale every token to the mean norm before it is averaged.
        depths: sites from this fraction of depth to that one (site i of n lies at (i + 1) / n).
        story_kinds, neutral_kinds: kinds of text used as stories and as neutral text.
        named: use stories that name the emotion (True), that do not (False), or both (None).
        fit_split, held_out_split: splits of stories for learning and for the AUROC.
        min_stories: fewest stories an emotion needs in each split.
        max_held_out: at most so many held-out stories of each emotion score (the first ones).
        max_topic_v: the largest Cramér's V between topic and emotion that is not refused.
        control_emotion: the emotion whose labels are shuffled; None takes `desperate` or else the first.
        content_topics: topics of the content directions; None takes those with the most stories.
        n_random, n_covariance, n_content, n_shuffled: numbers of control directions.
        n_splits, n_bootstrap: random halves and bootstrap replicates (at most `n_refits` of each for
            estimators that must be fitted anew for every one of them).
        n_refits: see there.
        read_depth, steer_depth: default sites as fractions of depth (the paper: about 2/3 and the middle).
        seed: seed of controls and resamples.
    """

    emotions: tuple[str, ...] | None = None
    estimator: str = "difference_of_means"
    from_token: int = 50
    neutral_variance: float = 0.5
    centre: str = "emotions"
    penalty: float = 1.0
    token_norm: bool = False
    depths: tuple[float, float] = (0.0, 1.0)
    story_kinds: tuple[str, ...] = ("story",)
    neutral_kinds: tuple[str, ...] = ("neutral",)
    named: bool | None = False
    fit_split: str = "train"
    held_out_split: str = "held_out"
    min_stories: int = 2
    max_held_out: int = 200
    max_topic_v: float = REFUSE
    control_emotion: str | None = None
    content_topics: tuple[str, ...] | None = None
    n_random: int = 20
    n_covariance: int = 20
    n_content: int = 5
    n_shuffled: int = 5
    n_splits: int = 5
    n_bootstrap: int = 100
    n_refits: int = 2
    read_depth: float = 2 / 3
    steer_depth: float = 0.5
    seed: int = 0


def sites_between(sites: tuple[str, ...], low: float | int, high: float | int) -> tuple[str, ...]:
    """Sites at or behind one fraction of depth and at or before another (site i of n lies at (i + 1) / n).

    Raises:
        UserError: no site lies there.
    """
    chosen = tuple(
        site for place, site in enumerate(sites) if low - 1e-9 <= (place + 1) / len(sites) <= high + 1e-9
    )
    if not chosen:
        raise UserError(
            f"no site lies between the depths {low:g} and {high:g}",
            expected=f"a stretch of 0 to 1 over {len(sites)} sites",
        )
    return chosen


def site_at_depth(sites: tuple[str, ...], depth: float | int) -> str:
    """The first site at or behind a fraction of depth (site i of n lies at (i + 1) / n)."""
    return sites[min(len(sites) - 1, max(0, int(np.ceil(depth * len(sites) - 1e-9)) - 1))]
