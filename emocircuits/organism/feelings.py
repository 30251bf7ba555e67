"""Feelings named in the text: after what has happened, the emotion word that follows from it.

The word is drawn from the posterior over the 171 emotions, and the posterior itself is what a model is
trained towards, so these places ground the emotion words in the sentences of the world, in everyday life as
in the agents' scenes.
"""

from collections.abc import Sequence
from functools import lru_cache

from emocircuits.organism.bayes import emotion_prior, level_table
from emocircuits.organism.documents import Decision, Draw, Person
from emocircuits.organism.world import APPRAISALS, level_probabilities, lexicon

STEMS = (
    "{name} felt",
    "It made {name} feel",
    "{name} was feeling",
    "By then {name} felt",
    "That left {name} feeling",
)


@lru_cache(maxsize=1 << 14)
def emotion_posterior(
    shown: tuple[tuple[str, int], ...], moved: tuple[tuple[str, float], ...] = ()
) -> dict[str, float]:
    """P(emotion | an emotion is felt, the levels shown, the coordinates of appraisals that have moved).

    Args:
        shown: (appraisal, level) as the text shows them.
        moved: (appraisal, coordinate): evidence Σ_level P(level | coordinate) P(level | emotion).
    """
    weight = emotion_prior()[:-1].copy()
    for name, level in shown:
        weight = weight * level_table()[:-1, APPRAISALS.index(name), level + 1]
    for name, coordinate in moved:
        weight = weight * (level_table()[:-1, APPRAISALS.index(name)] @ level_probabilities(coordinate))
    weight /= weight.sum()
    return dict(zip(lexicon().emotions, weight.tolist(), strict=True))


def name_feeling(
    draw: Draw, who: Person, before: Sequence[str], posterior: dict[str, float]
) -> tuple[str, Decision]:
    """The text so far with a sentence that names a feeling after it, and the place of the emotion word."""
    prefix = " ".join([*before, who.fill(draw.choice(STEMS))])
    felt = draw.choices(list(posterior), list(posterior.values()))[0]
    return f"{prefix} {felt}.", Decision(
        prefix, felt, (felt,), posterior[felt], lambda: posterior[felt], shares=posterior
    )
