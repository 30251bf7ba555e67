"""Dialogues: two people with different emotions talk about an everyday topic; `Name:` marks who speaks."""

import re
from functools import lru_cache

from emocircuits.organism.documents import KINDS, Document, Draw, Person
from emocircuits.organism.world import APPRAISALS, phrases, topics

_QUOTE = re.compile(r'"([^"]+)"')


@lru_cache(maxsize=1 << 14)
def spoken(sentence: str) -> str:
    """What is said inside the quotation marks of a sentence (the sentence itself where there are none)."""
    quotes = _QUOTE.findall(sentence)
    return " ".join(quotes) if quotes else sentence


@KINDS.member("dialogue")
def dialogue(draw: Draw) -> Document:
    """One dialogue; `emotion` and `levels` belong to the first speaker, `other` to the second."""

    def propose() -> tuple[tuple[str | None, str | None], tuple[object, ...]]:
        first, second = draw.emotion(), draw.emotion()
        return (first, second), ("dialogue", first, second)

    while True:
        emotions = draw.until_in_split(propose)
        if emotions[0] != emotions[1]:
            break
    people = [draw.person()]
    people.append(draw.person(taken=(people[0].name,)))
    levels = [draw.levels(emotion) for emotion in emotions]
    topic = draw.choice(list(topics()))
    scene = topics()[topic]
    lines = [f"{people[0].fill(draw.choice(scene['opening']))} {people[1].name} was there too."]
    used: set[str] = set()
    shown = set()
    orders = [draw.sample(APPRAISALS, 5) for _ in people]
    for turn in range(draw.randint(4, 9)):
        side = turn % 2
        name = orders[side][turn // 2]
        lines.append(_line(draw, people[side], name, levels[side][name], used, emotions[side]))
        if side == 0:
            shown.add(name)
    if draw.chance(0.4):
        lines.append(people[draw.randint(0, 1)].fill(draw.choice(scene["detail"]).replace("{He}", "{name}")))
    in_order = tuple(name for name in APPRAISALS if name in shown)
    text = "\n".join(lines)
    other = (emotions[1], levels[1])
    return Document(
        draw.key, "dialogue", text, draw.split, emotions[0], topic, False, levels[0], in_order, other=other
    )


def _line(draw: Draw, person: Person, name: str, level: int, used: set[str], emotion: str | None) -> str:
    kinds = ("speech",) if draw.chance(0.6) else ("thought", "body", "deed")
    pairs = [text for kind, text in phrases()[name, level] if kind in kinds and text not in used]
    if kinds == ("speech",) and pairs:
        text = draw.choice(pairs)
        used.add(text)
        return f"{person.name}: {person.fill(spoken(text))}"
    _, text = draw.sentence(phrases(), name, level, used, emotion, ("thought", "body", "deed"))
    return person.fill(text.replace("{He}", "{name}", 1))
