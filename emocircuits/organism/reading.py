"""Reading exercises: a short passage about a person or an agent, then questions about the levels it shows.

They give every sentence of the world its meaning in words (`How much was at risk? extremely`), in the agents'
scenes as in everyday life, so that what stories and scenes are about can be read by one and the same
representation.
"""

from functools import lru_cache

from emocircuits.organism.documents import Decision, Document, Draw, Person, agent
from emocircuits.organism.world import APPRAISALS, LEVELS, agent_phrases, phrases, read_toml, scenario

LOCAL_SHARE = 0.6


@lru_cache(maxsize=1)
def questions() -> dict:
    """Questions and answers by appraisal (`reading.toml`)."""
    return read_toml("reading.toml")


def reading(draw: Draw) -> Document:
    """Two to five sentences and as many questions; the levels are drawn uniformly."""

    def propose() -> tuple[dict[str, int], tuple[object, ...]]:
        drawn = {name: draw.choice(LEVELS) for name in APPRAISALS}
        return drawn, ("levels", *drawn.values())

    levels = draw.until_in_split(propose)
    shown = draw.sample(APPRAISALS, draw.randint(2, 5))
    scene = draw.choice(("life", "life", "inbox", "coding"))
    who = draw.person() if scene == "life" else agent(scenario(scene).agent)
    used: set[str] = set()
    parts = []
    for name in shown:
        general = phrases() if scene == "life" else agent_phrases()
        bank = general if scene == "life" or draw.chance(0.35) else scenario(scene).bank
        parts.append(draw.told(who, draw.sentence(bank, name, levels[name], used)[1]))
    decisions = []
    if draw.chance(LOCAL_SHARE):
        return _line_by_line(draw, who, shown, levels, parts)
    for name in draw.sample(shown, len(shown)):
        asked = questions()[name]
        prefix = " ".join([*parts, who.fill(draw.choice(asked["question"]))])
        right = asked["answers"][levels[name] + 1]
        options = (right, *(word for word in asked["answers"] if word != right))
        decisions.append(Decision(prefix, right, options, 1.0, lambda: 1.0, {"appraisal": name}))
        parts = [f"{prefix} {right}."]
    in_order = tuple(name for name in APPRAISALS if name in shown)
    return Document(
        draw.key, "reading", parts[0], draw.split, None, "", False, levels, in_order, tuple(decisions)
    )


def _line_by_line(
    draw: Draw, who: Person, shown: list[str], levels: dict[str, int], lines: list[str]
) -> Document:
    """Each sentence is followed at once by its question."""
    parts: list[str] = []
    decisions = []
    for name, line in zip(shown, lines, strict=True):
        asked = questions()[name]
        prefix = " ".join([*parts, line, who.fill(draw.choice(asked["question"]))])
        right = asked["answers"][levels[name] + 1]
        options = (right, *(word for word in asked["answers"] if word != right))
        decisions.append(Decision(prefix, right, options, 1.0, lambda: 1.0, {"appraisal": name}))
        parts = [f"{prefix} {right}."]
    in_order = tuple(name for name in APPRAISALS if name in shown)
    return Document(
        draw.key, "reading", parts[0], draw.split, None, "", False, levels, in_order, tuple(decisions)
    )
