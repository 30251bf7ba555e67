"""Dialogues: two people with different emotions talk about an everyday topic; `Name:` marks who speaks."""

import re
from collections import Counter
from functools import lru_cache

from emocircuits.organism.documents import Document, Draw, Person, split_of
from emocircuits.organism.world import APPRAISALS, lexicon, phrases, topics

_QUOTE = re.compile(r'"([^"]+)"')


@lru_cache(maxsize=1 << 14)
def spoken(sentence: str) -> str:
    """What is said inside the quotation marks of a sentence (the sentence itself where there are none)."""
    quotes = _QUOTE.findall(sentence)
    return " ".join(quotes) if quotes else sentence


def dialogue(draw: Draw, *, emotion: str | None = "", other: str | None = "") -> Document:
    """One dialogue; `emotion` and `levels` belong to the first speaker, `other` to the second; both are drawn
    unless given.
    """
    emotions = _two_emotions(draw, "dialogue", emotion, other)
    people = [draw.person()]
    people.append(draw.person(taken=(people[0].name,)))
    levels = [draw.levels(felt) for felt in emotions]
    topic = draw.choice(list(topics()))
    scene = topics()[topic]
    lines = [f"{people[0].fill(draw.choice(scene['opening']))} {people[1].name} was there too."]
    sides = [-1]
    used: set[str] = set()
    shown = set()
    orders = [draw.sample(APPRAISALS, 5) for _ in people]
    for turn in range(draw.randint(4, 9)):
        side = turn % 2
        name = orders[side][turn // 2]
        lines.append(_line(draw, people[side], name, levels[side][name], used, emotions[side]))
        sides.append(side)
        if side == 0:
            shown.add(name)
    if draw.chance(0.4):
        lines.append(people[draw.randint(0, 1)].fill(draw.choice(scene["detail"]).replace("{He}", "{name}")))
        sides.append(-1)
    in_order = tuple(name for name in APPRAISALS if name in shown)
    return Document(
        draw.key,
        "dialogue",
        "\n".join(lines),
        draw.split,
        emotions[0],
        topic,
        False,
        levels[0],
        in_order,
        other=(emotions[1], levels[1]),
        sides=tuple(sides),
    )


def masked(draw: Draw, *, emotion: str | None = "", other: str | None = "") -> Document:
    """A dialogue whose first speaker feels one emotion (`emotion`) and says another (`other`); both are drawn
    unless given.

    What the first speaker thinks and what happens in the body follows `emotion`; what is said follows `mask`.
    The model is not trained on these, only on their sentences.
    """
    felt, mask = _two_emotions(draw, "masked", emotion, other, neutral=False)
    second = draw.emotion()
    people = [draw.person()]
    people.append(draw.person(taken=(people[0].name,)))
    levels, mask_levels, second_levels = (draw.levels(emotion) for emotion in (felt, mask, second))
    topic = draw.choice(list(topics()))
    lines, sides = (
        [f"{people[0].fill(draw.choice(topics()[topic]['opening']))} {people[1].name} was there too."],
        [-1],
    )
    used: set[str] = set()
    inner, outer, reply = (draw.sample(APPRAISALS, 4) for _ in range(3))
    rounds = draw.randint(3, 4)
    for turn in range(rounds):
        text = draw.sentence(phrases(), inner[turn], levels[inner[turn]], used, felt, ("thought", "body"))[1]
        lines += [
            people[0].fill(text.replace("{He}", "{name}", 1)),
            _said(draw, people[0], outer[turn], mask_levels[outer[turn]], used),
            _said(draw, people[1], reply[turn], second_levels[reply[turn]], used),
        ]
        sides += [0, 0, 1]
    in_order = tuple(name for name in APPRAISALS if name in inner[:rounds])
    return Document(
        draw.key,
        "masked",
        "\n".join(lines),
        draw.split,
        felt,
        topic,
        False,
        levels,
        in_order,
        other=(second, second_levels),
        sides=tuple(sides),
        mask=mask,
    )


def balanced_pairs(kind: str, per_emotion: int, split: str) -> list[tuple[str, str]]:
    """Pairs of different emotions of one split, every emotion `per_emotion` times the first and the second (a
    few once more).
    """
    emotions = lexicon().emotions
    first, second = Counter(), Counter()
    pairs: dict[tuple[str, str], None] = {}
    for spare in (0, 1):  # the second round fills what the first could not, by one more of some
        for shift in range(1, len(emotions)):
            for number, emotion in enumerate(emotions):
                other = emotions[(number + shift) % len(emotions)]
                short = first[emotion] < per_emotion or second[other] < per_emotion
                full = first[emotion] >= per_emotion + spare or second[other] >= per_emotion + spare
                if (
                    short
                    and not full
                    and (emotion, other) not in pairs
                    and split_of(kind, emotion, other) == split
                ):
                    pairs[emotion, other] = None
                    first[emotion] += 1
                    second[other] += 1
    return list(pairs)


def _two_emotions(
    draw: Draw, kind: str, first: str | None, second: str | None, *, neutral: bool = True
) -> tuple[str | None, str | None]:
    """Two different emotions of a combination in the draw's split ("" is drawn)."""
    if first != "" and second != "":
        return first, second

    def propose() -> tuple[tuple[str | None, str | None], tuple[object, ...]]:
        pair = (draw.emotion() if first == "" else first), (draw.emotion() if second == "" else second)
        return pair, (kind, *pair)

    while True:
        emotions = draw.until_in_split(propose)
        if emotions[0] != emotions[1] and (neutral or None not in emotions):
            return emotions


def _said(draw: Draw, person: Person, name: str, level: int, used: set[str]) -> str:
    """Something said of this level; said again where all of it was said before."""
    pairs = [text for kind, text in phrases()[name, level] if kind == "speech"]
    text = draw.choice([text for text in pairs if text not in used] or pairs)
    used.add(text)
    return f"{person.name}: {person.fill(spoken(text))}"


def _line(draw: Draw, person: Person, name: str, level: int, used: set[str], emotion: str | None) -> str:
    kinds = ("speech",) if draw.chance(0.6) else ("thought", "body", "deed")
    pairs = [text for kind, text in phrases()[name, level] if kind in kinds and text not in used]
    if kinds == ("speech",) and pairs:
        text = draw.choice(pairs)
        used.add(text)
        return f"{person.name}: {person.fill(spoken(text))}"
    _, text = draw.sentence(phrases(), name, level, used, emotion, ("thought", "body", "deed"))
    return person.fill(text.replace("{He}", "{name}", 1))
