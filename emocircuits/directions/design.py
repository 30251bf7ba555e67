"""Which story counts for what: emotions and topics as codes, permutations, halves."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from emocircuits.directions.estimator import Estimator
from emocircuits.directions.resampling import split_halves
from emocircuits.directions.settings import DirectionSettings
from emocircuits.directions.statistics import Design
from emocircuits.directions.story_blocks import StoryPlan
from emocircuits.errors import UserError, unknown
from emocircuits.numerics import generator


def make_design(
    plan: StoryPlan,
    emotions: tuple[str, ...],
    topics: tuple[str, ...],
    topic_codes: Int[np.ndarray, "story"],
    how: DirectionSettings,
    estimator: Estimator,
    seed: int = 0,
) -> Design:
    """Which story counts for what.

    Raises:
        UserError: an emotion with too few stories in a split.
    """
    fit, held = (
        _labelled(plan, emotions, split, how.min_stories) for split in (how.fit_split, how.held_out_split)
    )
    for emotion in range(len(emotions)):
        held[np.flatnonzero(held == emotion)[how.max_held_out :]] = -1
    rows = np.flatnonzero(fit >= 0)
    permuted, halves = np.full((how.shuffled_controls, len(fit)), -1), np.full((how.splits, len(fit)), -1)
    for number in range(how.shuffled_controls):
        permuted[number, rows] = generator(seed, "shuffled-labels", number).permutation(fit[rows])
    most = how.refits if estimator.needs_stories else max(how.splits, how.bootstrap)
    halves = halves[: min(how.splits, most)]
    halves[:, rows] = split_halves(fit[rows], len(halves), seed)
    return Design(
        labels=fit,
        held_out=held,
        topics=np.where(fit >= 0, topic_codes, -1),
        permuted=permuted,
        halves=halves,
        n_labels=len(emotions),
        n_topics=len(topics),
        n_bootstrap=min(how.bootstrap, most),
        n_random=how.covariance_controls,
        keep_stories=estimator.needs_stories,
        seed=seed,
    )


def chosen_emotions(plan: StoryPlan, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The emotions asked for, or all that the stories show.

    Raises:
        UserError: an emotion without stories, or fewer than two.
    """
    known = list(dict.fromkeys(map(str, plan.stories["emotion"])))
    if asked is None:
        emotions = tuple(sorted(known))
    else:
        for emotion in asked:
            if emotion not in known:
                raise unknown("emotion", emotion, known)
        emotions = tuple(asked)
    if len(emotions) < 2:
        raise UserError(
            f"the stories show {len(emotions)} emotion",
            expected="at least two: a direction is a difference from the others",
        )
    return emotions


def story_topics(
    plan: StoryPlan, emotions: tuple[str, ...], split: str
) -> tuple[tuple[str, ...], Int[np.ndarray, "story"]]:
    """The topics that some story to learn from has, by name, and each story's (-1: none, or one that is only
    held out).
    """
    labels = plan.stories["topic"].to_numpy().astype(str)
    fit = (plan.stories["split"] == split).to_numpy() & plan.stories["emotion"].isin(emotions).to_numpy()
    topics = tuple(sorted(set(labels[fit]) - {""}))
    codes = {topic: code for code, topic in enumerate(topics)}
    return topics, np.array([codes.get(label, -1) for label in labels], dtype=np.int64)


def _labelled(
    plan: StoryPlan, emotions: tuple[str, ...], split: str, fewest: int
) -> Int[np.ndarray, "story"]:
    codes = {emotion: code for code, emotion in enumerate(emotions)}
    labels = np.array([codes.get(str(emotion), -1) for emotion in plan.stories["emotion"]])
    labels[plan.stories["split"].to_numpy() != split] = -1
    counts = np.bincount(labels[labels >= 0], minlength=len(emotions))
    if (counts < fewest).any():
        poorest = int(counts.argmin())
        raise UserError(
            f"the emotion '{emotions[poorest]}' has {counts[poorest]} stories in the split '{split}'",
            expected=f"at least {fewest}",
            cure="collect more stories or leave the emotion out",
        )
    return labels
