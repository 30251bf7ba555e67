"""How well any reader of the organism's stories could tell their emotions: the limit that directions are
measured against.

Three readers of the same held-out stories: one who knows the generator (the exact posterior,
`organism.emotion_posterior`), the best straight line through what the sentences say (a linear discriminant on
the shown levels, learned from the training stories), and one who also sees the hidden levels. A direction is
linear in what the model makes of the text, so the second is what it can be expected to reach; the first is
what no reading can pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocircuits.directions.estimator import EstimatorOptions
from emocircuits.directions.linear_discriminant import linear_discriminant
from emocircuits.directions.statistics import ClassStatistics
from emocircuits.directions.validation import AurocIntervals, auroc_intervals, naming_accuracy
from emocircuits.errors import UserError
from emocircuits.organism.bayes import level_table
from emocircuits.organism.corpus import make_document
from emocircuits.organism.documents import Document
from emocircuits.organism.emotion_posterior import emotion_log_posterior, shown_levels
from emocircuits.organism.world import APPRAISALS, lexicon


@dataclass(frozen=True, eq=False)
class EmotionLimits:
    """AUROCs (one against all others) and accuracy of the best readers.

    Attributes:
        bayes: of the exact posterior given the text.
        linear: of the best linear reading of the shown levels.
        latent: of the exact posterior given all levels, hidden ones too.
        accuracy: share of stories whose emotion the posterior given the text names, with its 95 % interval.
    """

    bayes: AurocIntervals
    linear: AurocIntervals
    latent: AurocIntervals
    accuracy: tuple[float, float, float]


def emotion_limits(
    fit: Sequence[Document], held_out: Sequence[Document], emotions: Sequence[str]
) -> EmotionLimits:
    """Limits on held-out stories.

    Args:
        fit: training stories, for the linear reading.
        held_out: stories to score on.
        emotions: the emotions in question; every story shows one of them.
    """
    columns = [lexicon().index(emotion) for emotion in emotions]
    codes = {emotion: code for code, emotion in enumerate(emotions)}
    fit_labels, labels = (
        np.array([codes[str(story.emotion)] for story in stories]) for stories in (fit, held_out)
    )
    posterior = emotion_log_posterior(held_out)[:, columns]
    table = np.log(level_table()[columns])
    levels = np.array([[story.levels[name] for name in APPRAISALS] for story in held_out])
    latent = sum(table[:, column, levels[:, column] + 1].T for column in range(len(APPRAISALS)))
    # the posterior among these emotions only, since a story shows one of them
    posterior, latent = (
        values - np.logaddexp.reduce(values, axis=1, keepdims=True) for values in (posterior, latent)
    )
    linear = shown_levels(held_out) @ _discriminant(shown_levels(fit), fit_labels, len(emotions)).T
    return EmotionLimits(
        *(auroc_intervals(scores, labels) for scores in (posterior, linear, latent)),
        naming_accuracy(posterior, labels),
    )


def story_of(text_id: str) -> Document:
    """The generator's story that a text of a run came from (`emotion/story/split/seed/index`).

    Raises:
        UserError: the id is not of this form.
    """
    parts = text_id.split("/")
    if len(parts) != 5 or parts[1] != "story" or not (parts[3] + parts[4]).isdigit():
        raise UserError(
            f"the text id '{text_id}' is not of a story of the organism",
            expected="emotion/story/split/seed/index",
        )
    emotion, _, split, seed, index = parts
    return make_document("story", int(index), seed=int(seed), split=split, named=False, emotion=emotion)


def _discriminant(
    levels: Float[np.ndarray, "story level"], labels: Int[np.ndarray, "story"], n: int
) -> Float[np.ndarray, "emotion level"]:
    means = np.stack([levels[labels == label].mean(axis=0) for label in range(n)])
    around = levels - means[labels]
    statistics = ClassStatistics(
        means=means,
        weights=np.bincount(labels, minlength=n).astype(np.float64),
        within_cov=around.T @ around / len(levels),
        neutral_mean=means.mean(axis=0),
        neutral_cov=np.zeros((levels.shape[1],) * 2),
    )
    return linear_discriminant(statistics, EstimatorOptions(penalty=0.01))
