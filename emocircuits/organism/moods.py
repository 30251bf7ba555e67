"""Moods: what happens to someone, sentence by sentence, and after each sentence how that makes them feel.

The emotion named is drawn from the exact posterior over the 171 emotions given all levels shown so far, so
these texts ground the emotion words in the sentences of the world, in everyday life as in the agents' scenes.
"""

from emocircuits.organism.documents import Decision, Document, Draw, agent
from emocircuits.organism.feelings import emotion_posterior, name_feeling
from emocircuits.organism.world import APPRAISALS, agent_phrases, phrases, scenario


def mood(draw: Draw) -> Document:
    """Three to seven sentences, each followed by the emotion it leaves."""
    emotion, levels = draw.emotion_and_levels()
    scene = draw.choice(("life", "life", "inbox", "coding"))
    who = draw.person() if scene == "life" else agent(scenario(scene).agent)
    order = draw.sample(APPRAISALS, draw.randint(3, 7))
    used: set[str] = set()
    parts: list[str] = []
    feelings: list[Decision] = []
    shown: dict[str, int] = {}
    for name in order:
        general = phrases() if scene == "life" else agent_phrases()
        bank = general if scene == "life" or draw.chance(0.35) else scenario(scene).bank
        shown[name] = levels[name]
        parts.append(draw.told(who, draw.sentence(bank, name, levels[name], used)[1]))
        posterior = emotion_posterior(tuple(sorted(shown.items())))
        text, feeling = name_feeling(draw, who, parts, posterior)
        feelings.append(feeling)
        parts = [text]
    in_order = tuple(name for name in APPRAISALS if name in order)
    return Document(
        draw.key, "mood", parts[0], draw.split, emotion, "", True, levels, in_order, feelings=tuple(feelings)
    )
