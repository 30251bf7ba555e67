"""Openings for self-written stories, and the plan of which story opens how: a pure function of the seed."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emocircuits.activations.prompts import LabelledText
from emocircuits.errors import UserError, unknown
from emocircuits.numerics import generator

MATERIAL = Path(__file__).parent / "self_written.toml"
PRONOUNS = {"he": ("he", "his", "him"), "she": ("she", "her", "her")}


@dataclass(frozen=True)
class StoryMaterial:
    """What stories are opened with.

    Attributes:
        people: (name, "he" or "she").
        topics: topic -> openings that say nothing of any emotion.
        situations: emotion -> sentences that state the situation and never name the emotion; "" for neutral
            ones.
        forbidden: emotion -> words that may not occur in its stories; "" for neutral ones (all emotions'
            words and more).
    """

    people: tuple[tuple[str, str], ...]
    topics: Mapping[str, tuple[str, ...]]
    situations: Mapping[str, tuple[str, ...]]
    forbidden: Mapping[str, tuple[str, ...]]

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions there are situations for."""
        return tuple(name for name in self.situations if name)

    def check(self, emotions: Sequence[str]) -> tuple[str, ...]:
        """The emotions asked for (all when none is).

        Raises:
            UserError: an emotion the material has no situations for, or one asked for twice.
        """
        for emotion in emotions:
            if emotion not in self.emotions:
                raise unknown("emotion of the self-written stories", emotion, self.emotions)
        if len(set(emotions)) != len(emotions):
            raise UserError(f"emotions {', '.join(emotions)}", expected="each emotion once")
        return tuple(emotions) or self.emotions

    def names(self, emotion: str, text: str) -> bool:
        """Whether a text holds a word that is forbidden for the emotion ("" for neutral)."""
        return bool(pattern_of(self.forbidden[emotion]).search(text))

    def plan(self, emotion: str, n: int, seed: int, held_out_share: float) -> list["Opening"]:
        """`plan_openings` of this material."""
        return plan_openings(self, emotion, n, seed, held_out_share)


@dataclass(frozen=True)
class Opening:
    """The beginning of one planned story: the label, and the text the model continues.

    Attributes:
        label: the label; its text is the part of the opening that belongs to the story.
        request: what stands before the story and is no part of it, for models that are asked; "" where there
            is nothing.
    """

    label: LabelledText
    request: str = ""

    @property
    def text(self) -> str:
        """What the model continues."""
        return self.request + self.label.text


@cache
def story_material(path: Path = MATERIAL) -> StoryMaterial:
    """Reads the openings that come with the package."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    emotions = table["emotions"]
    every_word = tuple(word for entry in emotions.values() for word in entry["forbidden"])
    return StoryMaterial(
        people=tuple((name, pronoun) for name, pronoun in table["people"]),
        topics={name: tuple(openings) for name, openings in table["topics"].items()},
        situations={"": tuple(table["neutral"]["situations"])}
        | {name: tuple(entry["situations"]) for name, entry in emotions.items()},
        forbidden={"": every_word + tuple(table["neutral"]["forbidden"])}
        | {name: tuple(entry["forbidden"]) for name, entry in emotions.items()},
    )


def plan_openings(
    material: StoryMaterial, emotion: str, n: int, seed: int, held_out_share: float = 0.25
) -> list[Opening]:
    """The openings of the first `n` stories of an emotion ("" for neutral texts).

    Topics and situations are balanced and independent of each other: story i takes situation i mod S and, in
    blocks of S, topics in an order that is shuffled again for every situation. The last situations (this
    share of them, at least one) are the split `held_out`.
    """
    situations, topics = material.situations[emotion], tuple(material.topics)
    kind = "story" if emotion else "neutral"
    first_held_out = len(situations) - max(1, round(held_out_share * len(situations)))
    orders = [
        generator(seed, "topics", emotion, index).permutation(len(topics)) for index in range(len(situations))
    ]
    planned = []
    for index in range(n):
        which, turn = index % len(situations), index // len(situations)
        rng = generator(seed, "opening", emotion, index)
        topic = topics[orders[which][turn % len(topics)]]
        first, second = rng.permutation(len(material.people))[:2]
        template = f"{rng.choice(material.topics[topic])} {situations[which]}"
        text = fill(template, *material.people[first], friend=material.people[second][0])
        split = "held_out" if which >= first_held_out else "train"
        planned.append(
            Opening(
                LabelledText(
                    id=f"{kind}/{emotion + '/' if emotion else ''}{index}",
                    text=text,
                    emotion=emotion,
                    topic=topic,
                    kind=kind,
                    split=split,
                )
            )
        )
    return planned


def fill(template: str, name: str, pronoun: str, *, friend: str) -> str:
    """Puts the child's name and pronouns and the friend's name into a template."""
    he, his, him = PRONOUNS[pronoun]
    return template.format(
        name=name, friend=friend, he=he, his=his, him=him, He=he.capitalize(), His=his.capitalize()
    )


@cache
def pattern_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of the words as whole words, whatever their case."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
