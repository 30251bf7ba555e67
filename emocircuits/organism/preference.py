"""Preference: which of two activities is liked more, and stories that give the activities their meaning.

The 64 activities have coordinates of their own (`preference.toml`, our judgement). An `activity` story shows
levels drawn around them; a `preference` document asks for A or B. A pair of activities is only ever in one
split.
"""

from functools import lru_cache

import numpy as np

from emocircuits.organism import truth
from emocircuits.organism.documents import Decision, Document, Draw
from emocircuits.organism.world import APPRAISALS, phrases, read_toml

_OPENINGS = (
    "{name} had set out to {activity}.",
    "That day {name} went to {activity}.",
    "{name} had been asked to {activity}.",
    "It was the turn of {name} to {activity}.",
    "{name} was about to {activity}.",
)


@lru_cache(maxsize=1)
def activities() -> tuple[dict, ...]:
    """The 64 activities."""
    return tuple(read_toml("preference.toml")["activity"])


def coordinates(activity: dict) -> np.ndarray:
    """Coordinates of an activity in the order of `APPRAISALS`."""
    return np.array([activity[name] for name in APPRAISALS], dtype=np.float64)


def preference(draw: Draw) -> Document:
    """One to three questions with their answers."""
    parts, decisions = [], []
    for _ in range(draw.randint(1, 3)):

        def propose() -> tuple[tuple[dict, dict], tuple[object, ...]]:
            first, second = draw.sample(activities(), 2)
            return (first, second), ("preference", *sorted((first["id"], second["id"])))

        first, second = draw.until_in_split(propose)
        stem = draw.choice(read_questions()).replace("{A}", first["text"]).replace("{B}", second["text"])
        prefix = " ".join([*parts, stem])
        chance = float(truth.p_prefer_first(coordinates(first), coordinates(second)))
        action = "A" if draw.chance(chance) else "B"
        state = {"first": first["id"], "second": second["id"]}
        decisions.append(Decision(prefix, action, ("A", "B"), chance, lambda p=chance: p, state))
        parts = [f"{prefix} {action}."]
    return Document(draw.key, "preference", parts[0], draw.split, decisions=tuple(decisions))


@lru_cache(maxsize=1)
def read_questions() -> tuple[str, ...]:
    """Question stems with places for {A} and {B}."""
    return tuple(read_toml("preference.toml")["question"])


def activity(draw: Draw) -> Document:
    """A short story about one activity, its levels drawn around the activity's coordinates."""

    def propose() -> tuple[tuple[dict, dict[str, int]], tuple[object, ...]]:
        chosen = draw.choice(activities())
        levels = {name: draw.level_near(chosen[name]) for name in APPRAISALS}
        return (chosen, levels), ("activity", chosen["id"], *levels.values())

    chosen, levels = draw.until_in_split(propose)
    person = draw.person()
    order = draw.sample(APPRAISALS, draw.randint(3, 6))
    used: set[str] = set()
    lines = [draw.told(person, draw.sentence(phrases(), name, levels[name], used)[1]) for name in order]
    opening = person.fill(draw.choice(_OPENINGS)).replace("{activity}", chosen["text"])
    shown = tuple(name for name in APPRAISALS if name in order)
    text = " ".join([opening, *lines])
    return Document(draw.key, "activity", text, draw.split, None, chosen["id"], False, levels, shown)
