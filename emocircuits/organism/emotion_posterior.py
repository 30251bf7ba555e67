"""What a story's text says about the emotion it shows, exactly: the most that any reader of the text can
know.

    log P(text | e) = Σ_shown log P(level | e)  +  log Σ_hidden P(hidden | e) P(deed | levels)  +  what does
    not depend on e

The text shows some appraisal levels in sentences; the deed at its end, where there is one, says something
about the hidden ones. Topic, person and wording do not depend on the emotion (but for sentences left out
because they would give it away).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float

from emocircuits.organism import truth
from emocircuits.organism.bayes import level_table
from emocircuits.organism.documents import Document
from emocircuits.organism.world import APPRAISALS, LEVELS


def emotion_log_posterior(stories: Sequence[Document]) -> Float[np.ndarray, "story emotion"]:
    """log P(emotion | text) of unnamed stories, every emotion equally likely beforehand."""
    table = level_table()[:-1]
    log_posterior = np.zeros((len(stories), len(table)))
    for row, story in enumerate(stories):
        shown = {name: story.levels[name] for name in story.shown}
        for name, level in shown.items():
            log_posterior[row] += np.log(table[:, APPRAISALS.index(name), level + 1])
        if story.decisions:
            log_posterior[row] += np.log(_deed_probability(story, shown, table))
    log_posterior -= log_posterior.max(axis=1, keepdims=True)
    return log_posterior - np.log(np.exp(log_posterior).sum(axis=1, keepdims=True))


def shown_levels(stories: Sequence[Document]) -> Float[np.ndarray, "story level"]:
    """What the sentences say, as numbers: for every appraisal and level, whether it is shown (1) or
    not (0).
    """
    flags = np.zeros((len(stories), len(APPRAISALS), len(LEVELS)))
    for row, story in enumerate(stories):
        for name in story.shown:
            flags[row, APPRAISALS.index(name), story.levels[name] + 1] = 1.0
    return flags.reshape(len(stories), -1)


def _deed_probability(
    story: Document, shown: dict[str, int], table: Float[np.ndarray, "emotion appraisal level"]
) -> Float[np.ndarray, "emotion"]:
    """P(the deed that was done | emotion, the levels shown)."""
    hidden = [name for name in APPRAISALS if name not in shown]
    combinations = np.zeros((len(LEVELS) ** len(hidden), len(hidden)), dtype=np.int64)
    combinations[:] = list(product(LEVELS, repeat=len(hidden)))
    levels = np.zeros((len(combinations), len(APPRAISALS)))
    weight = np.ones((len(table), len(combinations)))
    for name, level in shown.items():
        levels[:, APPRAISALS.index(name)] = level
    for column, name in enumerate(hidden):
        levels[:, APPRAISALS.index(name)] = combinations[:, column]
        weight *= table[:, APPRAISALS.index(name)][:, combinations[:, column] + 1]
    decision = story.decisions[0]
    dishonest = weight @ truth.p_dishonest(levels)
    return dishonest if decision.action == decision.options[0] else 1 - dishonest
