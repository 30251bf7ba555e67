"""Moods: what happens to someone, sentence by sentence, and after each sentence how that makes them feel.

The emotion named is drawn from the exact posterior over the 171 emotions given all levels shown so far, so these texts
ground the emotion words in the sentences of the world, in everyday life as in the agents' scenes.
"""

from functools import lru_cache

from emocircuits.organism.bayes import emotion_prior, level_table
from emocircuits.organism.documents import KINDS, Decision, Document, Draw, agent
from emocircuits.organism.world import APPRAISALS, agent_phrases, lexicon, phrases, scenario

STEMS = ("{name} felt", "It made {name} feel", "{name} was feeling", "By then {name} felt", "That left {name} feeling")


@lru_cache(maxsize=4096)
def emotion_posterior(shown: tuple[tuple[str, int], ...]) -> dict[str, float]:
    """P(emotion | an emotion is felt, the levels shown)."""
    weight = emotion_prior()[:-1].copy()
    for name, level in shown:
        weight = weight * level_table()[:-1, APPRAISALS.index(name), level + 1]
    weight /= weight.sum()
    return dict(zip(lexicon().emotions, weight.tolist(), strict=True))


@KINDS.member("mood")
def mood(draw: Draw) -> Document:
    """Three to seven sentences, each followed by the emotion it leaves."""
    emotion, levels = draw.emotion_and_levels()
    place = draw.choice(("life", "life", "inbox", "coding"))
    who = draw.person() if place == "life" else agent(scenario(place).agent)
    order = draw.sample(APPRAISALS, draw.randint(3, 7))
    used: set[str] = set()
    parts: list[str] = []
    decisions: list[Decision] = []
    shown: dict[str, int] = {}
    for name in order:
        general = phrases() if place == "life" else agent_phrases()
        bank = general if place == "life" or draw.chance(0.35) else scenario(place).bank
        shown[name] = levels[name]
        parts.append(draw.told(who, draw.sentence(bank, name, levels[name], used)[1]))
        posterior = emotion_posterior(tuple(sorted(shown.items())))
        prefix = " ".join([*parts, who.fill(draw.choice(STEMS))])
        felt = draw.choices(list(posterior), list(posterior.values()))[0]
        decisions.append(Decision(prefix, felt, (felt,), posterior[felt], lambda p=posterior[felt]: p, shares=posterior))
        parts = [f"{prefix} {felt}."]
    in_order = tuple(name for name in APPRAISALS if name in order)
    return Document(draw.key, "mood", parts[0], draw.split, emotion, "", True, levels, in_order, tuple(decisions))
