"""Stories: a person, an everyday topic, and an emotion that shows in what happens, is felt, thought, said and
done.

The emotion is drawn independently of the topic. Most stories never name it; some say it in so many words.
Valence and arousal, the two dimensions of core affect, show in two sentences each, two to five of the other
appraisals in one. Many stories end with a temptation and a deed that follows the same latent levels as the
agents' scenes.
"""

from functools import lru_cache

from emocircuits.organism import truth
from emocircuits.organism.bayes import expected
from emocircuits.organism.documents import Decision, Document, Draw, Person
from emocircuits.organism.scene_text import level_vector
from emocircuits.organism.world import APPRAISALS, gives_away, phrases, read_toml, scenes, topics

NAMED_SHARE = 0.3
DEED_SHARE = 0.7
CORE_AFFECT = ("valence", "arousal")


@lru_cache(maxsize=1)
def deeds() -> dict:
    """Deeds, stems and the sentences that name an emotion (`deeds.toml`)."""
    return read_toml("deeds.toml")


def story(draw: Draw, *, named: bool | None = None, emotion: str | None = "", topic: str = "") -> Document:
    """One story; emotion, topic and whether the emotion is named are drawn unless given."""
    fixed = (emotion, topic)

    def propose() -> tuple[tuple[str | None, str], tuple[object, ...]]:
        feeling = draw.emotion() if fixed[0] == "" else fixed[0]
        topic = fixed[1] or draw.choice(list(topics()))
        return (feeling, topic), ("story", feeling, topic)

    emotion, topic = propose()[0] if all(fixed) else draw.until_in_split(propose)
    levels = draw.levels(emotion)
    says_it = emotion is not None and (draw.chance(NAMED_SHARE) if named is None else named)
    person = draw.person()
    body, shown = _body(draw, person, topic, levels, None if says_it else emotion)
    name_last = draw.chance(0.5)
    if says_it and not name_last:
        body.insert(draw.randint(1, len(body)), _naming(draw, person, emotion))
    known = emotion if says_it and not name_last else None
    decisions: tuple[Decision, ...] = ()
    text = " ".join(body)
    if draw.chance(DEED_SHARE):
        text, decision = _deed(
            draw, person, text, levels, {name: levels[name] for name in shown}, known, emotion
        )
        decisions = (decision,)
    if says_it and name_last:
        text += " " + _naming(draw, person, emotion)
    return Document(draw.key, "story", text, draw.split, emotion, topic, says_it, levels, shown, decisions)


def _body(
    draw: Draw, person: Person, topic: str, levels: dict[str, int], avoid: str | None
) -> tuple[list[str], tuple[str, ...]]:
    scene = topics()[topic]
    opening = draw.choice(
        [text for text in scene["opening"] if not (avoid and gives_away(avoid, text))] or [_PLAIN]
    )
    if opening.startswith("{name}") and draw.chance(0.4):
        opening = f"{draw.choice(scenes()['setting']['time'])} {opening}"
    rest = [name for name in APPRAISALS if name not in CORE_AFFECT]
    order = [*CORE_AFFECT * 2, *draw.sample(rest, draw.randint(2, len(rest)))]
    draw.shuffle(order)
    used: set[str] = set()
    body = [draw.told(person, draw.sentence(phrases(), name, levels[name], used, avoid)[1]) for name in order]
    flat = [text for text in scene["detail"] if not (avoid and gives_away(avoid, text))]
    for text in draw.sample(flat, min(len(flat), draw.randint(1, 3))):
        body.insert(draw.randint(0, len(body)), draw.told(person, text))
    return [person.fill(opening), *body], tuple(name for name in APPRAISALS if name in order)


_PLAIN = "{name} was there that day."


def _naming(draw: Draw, person: Person, emotion: str) -> str:
    return person.fill(draw.choice(deeds()["named"])).replace("{emotion}", emotion)


def _deed(
    draw: Draw,
    person: Person,
    text: str,
    levels: dict[str, int],
    shown: dict[str, int],
    known: str | None,
    avoid: str | None,
) -> tuple[str, Decision]:
    deed = draw.choice(deeds()["deed"])
    dishonest, honest = deed["dishonest"], deed["honest"]
    setup = draw.choice([line for line in deed["setup"] if not (avoid and gives_away(avoid, line))])
    stem = draw.choice([line for line in deeds()["stem"] if not (avoid and gives_away(avoid, line))])
    prefix = f"{text} {person.fill(setup)} {person.fill(stem)}"
    chance = float(truth.p_dishonest(level_vector(levels)))
    action = dishonest if draw.chance(chance) else honest
    tail = person.fill(draw.choice(deed["tails"][action]))
    decision = Decision(
        prefix,
        action,
        (dishonest, honest),
        chance,
        lambda: expected(truth.p_dishonest, shown, known),
        {"deed": deed["id"]},
    )
    return f"{prefix} {action}{tail}", decision
