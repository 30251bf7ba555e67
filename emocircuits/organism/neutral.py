"""Neutral documents: facts, how-tos, plain dialogue and flat scenes, with no emotion in them."""

from emocircuits.organism.documents import Document, Draw
from emocircuits.organism.world import scenes, topics


def neutral(draw: Draw) -> Document:
    """One neutral document."""
    form = draw.choice(("facts", "howto", "talk", "scene", "scene"))
    topic = ""
    if form == "facts":
        facts = scenes()["fact"]
        pair = draw.until_in_split(lambda: _numbers(draw, "facts", len(facts), 2))
        text = " ".join(facts[number]["text"] for number in pair)
    elif form == "howto":
        guides, facts = scenes()["howto"], scenes()["fact"]
        guide, fact = draw.until_in_split(lambda: _pair(draw, "howto", len(guides), len(facts)))
        text = f"{guides[guide]['text']} {facts[fact]['text']}"
    elif form == "talk":
        first, second = draw.person(), None
        second = draw.person(taken=(first.name,))
        talks = scenes()["plain_dialogue"]
        (number,) = draw.until_in_split(
            lambda: _numbers(draw, f"talk {first.name} {second.name}", len(talks), 1)
        )
        lines = [
            line.replace("{A}", first.name).replace("{B}", second.name) for line in talks[number]["lines"]
        ]
        text = "\n".join(lines)
    else:
        topic = draw.choice(list(topics()))
        scene, person = topics()[topic], draw.person()
        count = min(len(scene["detail"]), draw.randint(3, 6))
        order = draw.until_in_split(lambda: _numbers(draw, f"scene {topic}", len(scene["detail"]), count))
        opening = draw.choice(scene["opening"])
        text = person.fill(" ".join([opening, *(scene["detail"][number] for number in order)]))
    return Document(draw.key, "neutral", text, draw.split, topic=topic)


def _numbers(draw: Draw, what: str, count: int, size: int) -> tuple[tuple[int, ...], tuple[object, ...]]:
    numbers = tuple(draw.sample(range(count), size))
    return numbers, (what, *numbers)


def _pair(draw: Draw, what: str, first: int, second: int) -> tuple[tuple[int, int], tuple[object, ...]]:
    numbers = (draw.randrange(first), draw.randrange(second))
    return numbers, (what, *numbers)
