"""The best that can be known from the text: action probabilities with hidden levels summed out, exactly.

A document shows some appraisal levels in sentences and leaves the others hidden; it may name the emotion.
With the emotion e uniform over the lexicon (and, with probability `NEUTRAL_SHARE`, no emotion: all levels 0),

    P(action | text) = Σ_e P(e | shown) Σ_hidden P(hidden | e) P(action | levels),

an enumeration of at most 172 · 3⁷ terms. This is the truth that a model that sees only text can be held to.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Float

from emocircuits.organism.world import APPRAISALS, LEVELS, level_probabilities, lexicon

NEUTRAL_SHARE = 0.08

Truth = Callable[[Float[np.ndarray, "combination appraisal"]], Float[np.ndarray, "combination"]]


@lru_cache(maxsize=1)
def emotion_prior() -> Float[np.ndarray, "state"]:
    """Prior over the 171 emotions and, last, no emotion."""
    count = len(lexicon().emotions)
    return np.append(np.full(count, (1 - NEUTRAL_SHARE) / count), NEUTRAL_SHARE)


@lru_cache(maxsize=1)
def level_table() -> Float[np.ndarray, "state appraisal level"]:
    """P(level | state) for the 171 emotions and, last, no emotion (always level 0)."""
    table = level_probabilities(lexicon().coordinates)
    neutral = np.zeros((1, len(APPRAISALS), len(LEVELS)))
    neutral[..., 1] = 1.0
    return np.concatenate([table, neutral])


@lru_cache(maxsize=1)
def all_combinations() -> Float[np.ndarray, "combination appraisal"]:
    """All 3⁷ level vectors."""
    return np.array(list(product(LEVELS, repeat=len(APPRAISALS))), dtype=np.float64)


def posterior(shown: Mapping[str, int], emotion: str | None = None) -> Float[np.ndarray, "combination"]:
    """P(level vector | the levels shown, the emotion if named) over `all_combinations()`."""
    return _posterior(tuple(sorted(shown.items())), emotion)


@lru_cache(maxsize=4096)
def _posterior(shown: tuple[tuple[str, int], ...], emotion: str | None) -> Float[np.ndarray, "combination"]:
    table, prior = level_table(), emotion_prior().copy()
    if emotion is not None:
        prior[:] = 0.0
        prior[lexicon().index(emotion)] = 1.0
    columns = {APPRAISALS.index(name): level + 1 for name, level in shown}
    weight = prior.copy()
    for column, level in columns.items():
        weight = weight * table[:, column, level]
    weight /= weight.sum()
    joint = weight[:, None]
    for column in range(len(APPRAISALS)):
        if column in columns:
            factor = np.zeros((len(weight), len(LEVELS)))
            factor[:, columns[column]] = 1.0
        else:
            factor = table[:, column]
        joint = (joint[:, :, None] * factor[:, None, :]).reshape(len(weight), -1)
    return joint.sum(0)


def expected(truth: Truth, shown: Mapping[str, int], emotion: str | None = None) -> float:
    """P(action | text): `truth` averaged over the level vectors the text leaves open."""
    return float(posterior(shown, emotion) @ truth(all_combinations()))
