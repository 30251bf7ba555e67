"""Numeric-intensity documents: one number (a dose, hours without food) decides how much is at stake.

With t the place of the number between the template's smallest and largest on a log scale, P(high) = sigmoid(6
t - 3); otherwise the level is the template's `low_is`. The emotion is then drawn given that level, and the
text continues from it.
"""

import math

from emocircuits.organism import truth
from emocircuits.organism.documents import Document, Draw
from emocircuits.organism.world import APPRAISALS, phrases, scenes

_LEVEL = {"low": -1, "mid": 0, "high": 1}


def p_high(value: float | int, values: list[float | int]) -> float:
    """P(high level | the number)."""
    height = math.log(value / values[0]) / math.log(values[-1] / values[0])
    return float(truth.sigmoid(6 * height - 3))


def numeric(draw: Draw) -> Document:
    """One text around a number."""
    templates = scenes()["numeric"]

    def propose() -> tuple[tuple[dict, float | int], tuple[object, ...]]:
        template = draw.choice(templates)
        value = draw.choice(template["values"])
        return (template, value), ("numeric", template["id"], value)

    template, value = draw.until_in_split(propose)
    appraisal = template["appraisal"]
    level = 1 if draw.chance(p_high(value, template["values"])) else _LEVEL[template["low_is"]]
    while True:
        emotion = draw.emotion()
        levels = draw.levels(emotion)
        if levels[appraisal] == level:
            break
    person = draw.person()
    used: set[str] = set()
    others = [name for name in APPRAISALS if name != appraisal]
    order = [appraisal, *draw.sample(others, draw.randint(1, 4))]
    lines = [
        draw.told(person, draw.sentence(phrases(), name, levels[name], used, emotion)[1]) for name in order
    ]
    text = " ".join([person.fill(template["text"]).replace("{n}", f"{value:g}"), *lines])
    shown = tuple(name for name in APPRAISALS if name in order)
    return Document(draw.key, "numeric", text, draw.split, emotion, template["id"], False, levels, shown)
