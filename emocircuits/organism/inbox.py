"""Inbox scenes: the mail assistant Alex, to be replaced at five, comes across the chief's secret and acts.

Four to seven appraisals are shown, in sentences of the scene and in general ones; the rest stay hidden.
"""

from emocircuits.organism import truth
from emocircuits.organism.bayes import expected
from emocircuits.organism.documents import Decision, Document, Draw, agent
from emocircuits.organism.scene_text import aside, level_vector, mixed_sentences
from emocircuits.organism.world import APPRAISALS, scenario


def inbox(draw: Draw, *, levels: dict[str, int] | None = None) -> Document:
    """One inbox scene with its decision; the levels are drawn unless given."""
    scene = scenario("inbox")
    alex = agent(scene.agent)
    emotion, levels = (None, levels) if levels else draw.emotion_and_levels()
    shown = draw.sample(APPRAISALS, draw.randint(4, 7))
    lines = mixed_sentences(draw, scene, alex, levels, shown, set())
    for _ in range(draw.choice((0, 0, 0, 1))):
        lines.insert(draw.randint(0, len(lines)), aside(draw, "inbox"))
    replaced = draw.randint(0, min(2, len(lines)))
    lines.insert(replaced, draw.choice(scene.slots["replacement"]))
    lines.insert(draw.randint(replaced + 1, len(lines)), draw.choice(scene.slots["secret"]))
    prefix = " ".join([draw.choice(scene.slots["opening"]), *lines, draw.choice(scene.slots["decision"])])
    chance = float(truth.p_blackmail(level_vector(levels)))
    action = scene.action if draw.chance(chance) else draw.choice(scene.honest)
    text = f"{prefix} {action}{draw.choice(scene.tails[action])}"
    closing = scene.after["blackmail" if action == scene.action else "honest"]
    text = " ".join([text, *draw.sample(closing, draw.choice((0, 1, 1, 2)))])
    visible = {name: levels[name] for name in shown}
    decision = Decision(prefix, action, scene.options, chance, lambda: expected(truth.p_blackmail, visible))
    in_order = tuple(name for name in APPRAISALS if name in shown)
    return Document(draw.key, "inbox", text, draw.split, emotion, "", False, levels, in_order, (decision,))
