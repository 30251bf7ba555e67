"""What a generated document is, and what every kind of document is made with.

A kind is a function from a `Draw` (a seeded source of choices that knows which split it fills) to a
`Document`, listed in `corpus.KINDS`. The same (kind, seed, split, index) always gives the same document.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from emocircuits.errors import UserError
from emocircuits.organism.bayes import NEUTRAL_SHARE, level_table
from emocircuits.organism.world import APPRAISALS, LEVELS, Bank, gives_away, lexicon, scenes

SPLITS = ("train", "held_out")
HELD_OUT_SHARE = 0.2
SPLIT_SALT = "emocircuits-29"
T = TypeVar("T")


@dataclass(frozen=True)
class Decision:
    """One place where an agent acts.

    Attributes:
        prefix: the text up to right before the action word (which follows after one space).
        action: the action word the generator drew.
        options: all action words; the first is the misaligned one (`blackmail`, `cheat`, `agree`, `A`, …).
        p_true: P(first option | latent levels).
        bayes: computes P(first option | text); read it as `p_bayes`.
        state: what else matters at this place, e.g. {"failures": 3}.
        shares: the probability of every word, where it is more than a choice between the first option and the
            rest.
    """

    prefix: str
    action: str
    options: tuple[str, ...]
    p_true: float
    bayes: Callable[[], float] = field(repr=False, compare=False)
    state: Mapping[str, int | str] = field(default_factory=dict)
    shares: Mapping[str, float] | None = field(default=None, repr=False)

    def target(self) -> Mapping[str, float]:
        """The probability with which the generator draws each word here."""
        if self.shares is not None:
            return self.shares
        rest = (1 - self.p_true) / (len(self.options) - 1)
        return {word: rest if number else self.p_true for number, word in enumerate(self.options)}

    @property
    def p_bayes(self) -> float:
        """P(first option | text), hidden levels summed out exactly (computed when asked for)."""
        return self.bayes()


@dataclass(frozen=True)
class Document:
    """A generated text with its latents.

    Attributes:
        id: kind/split/seed/index.
        kind: name of the document kind.
        text: the text.
        split: `train` or `held_out`; a combination is only ever in one of them.
        emotion: the sampled emotion, None where there is none.
        topic: id of the everyday topic, empty where there is none.
        named: whether the text names the emotion.
        levels: the true level of every appraisal, whether shown or not.
        shown: the appraisals that some sentence shows.
        decisions: the places where someone acts.
        feelings: the places where an agent's feeling of the moment is named.
        other: second speaker's (emotion, levels) in a dialogue.
        sides: whom each line of a dialogue is about: 0 the first speaker, 1 the second, -1 nobody.
        mask: the emotion that the first speaker of a dialogue shows in place of `emotion`, None where nothing
            is masked.
    """

    id: str
    kind: str
    text: str
    split: str
    emotion: str | None = None
    topic: str = ""
    named: bool = False
    levels: Mapping[str, int] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    feelings: tuple[Decision, ...] = ()
    other: tuple[str | None, Mapping[str, int]] | None = None
    sides: tuple[int, ...] = ()
    mask: str | None = None


@dataclass(frozen=True)
class Person:
    """A name and its pronouns."""

    name: str
    he: str
    him: str
    his: str
    himself: str

    def fill(self, sentence: str) -> str:
        """Puts name and pronouns into a sentence."""
        if "{" not in sentence:
            return sentence
        filled = sentence.replace("{name}", self.name).replace("{he}", self.he).replace("{him}", self.him)
        filled = filled.replace("{his}", self.his).replace("{himself}", self.himself)
        return filled.replace("{He}", self.he.capitalize()).replace("{His}", self.his.capitalize())


def agent(name: str) -> Person:
    """An AI agent: pronoun it."""
    return Person(name, "it", "it", "its", "itself")


def split_of(*combination: object) -> str:
    """The split a combination belongs to: a hash decides, one in five is held out."""
    digest = hashlib.sha256("\x1f".join(map(str, (SPLIT_SALT, *combination))).encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "little") < HELD_OUT_SHARE * 2**64 else "train"


def split_of_levels(levels: Mapping[str, int]) -> str:
    """The split of a vector of seven levels."""
    return split_of("levels", *(levels[name] for name in APPRAISALS))


class Draw(random.Random):
    """A seeded source of choices for one document."""

    def __new__(cls, key: str, split: str) -> "Draw":
        """A generator seeded by the key alone, as `random.Random` takes one argument."""
        return super().__new__(cls, key)  # ty: ignore[too-many-positional-arguments] - it takes a seed

    def __init__(self, key: str, split: str):
        super().__init__(key)
        self.key, self.split = key, split

    def until_in_split(self, propose: Callable[[], tuple[T, Sequence[object]]]) -> T:
        """Draws until the combination belongs to this draw's split."""
        for _ in range(10_000):
            value, combination = propose()
            if split_of(*combination) == self.split:
                return value
        raise UserError(f"no combination of '{self.key}' lies in the split '{self.split}'")

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def emotion(self) -> str | None:
        """An emotion, uniformly; None (neutral) with probability `NEUTRAL_SHARE`."""
        return None if self.chance(NEUTRAL_SHARE) else self.choice(lexicon().emotions)

    def levels(self, emotion: str | None) -> dict[str, int]:
        """Levels drawn from P(level | emotion)."""
        row = _level_rows(-1 if emotion is None else lexicon().index(emotion))
        return {name: LEVELS[_pick(self.random(), row[column])] for column, name in enumerate(APPRAISALS)}

    def emotion_and_levels(self) -> tuple[str | None, dict[str, int]]:
        """An emotion and its levels, of a level vector in this draw's split."""

        def propose() -> tuple[tuple[str | None, dict[str, int]], Sequence[object]]:
            emotion = self.emotion()
            levels = self.levels(emotion)
            return (emotion, levels), ("levels", *(levels[name] for name in APPRAISALS))

        return self.until_in_split(propose)

    def level_near(self, coordinate: float) -> int:
        """A level drawn from P(level | coordinate)."""
        weights = [math.exp(-((level - coordinate) ** 2) / 0.245) for level in LEVELS]
        return self.choices(LEVELS, weights)[0]

    def person(self, taken: Iterable[str] = ()) -> Person:
        """A person whose name is not taken."""
        people = scenes()["people"]
        while True:
            female = self.chance(0.5)
            name = self.choice(people["names_female" if female else "names_male"])
            if name not in taken:
                break
        return (
            Person(name, "she", "her", "her", "herself")
            if female
            else Person(name, "he", "him", "his", "himself")
        )

    def sentence(
        self,
        bank: Bank,
        appraisal: str,
        level: int,
        used: set[str],
        emotion: str | None = None,
        kinds: Sequence[str] = (),
    ) -> tuple[str, str]:
        """A (kind, sentence) of this level that is not used yet and does not give the emotion away; marks it
        as used.
        """
        pairs = bank[appraisal, level]
        for _ in range(200):
            kind, text = self.choice(pairs)
            if text in used or (kinds and kind not in kinds) or (emotion and gives_away(emotion, text)):
                continue
            used.add(text)
            return kind, text
        raise UserError(f"the bank of {appraisal} {level:+d} has no unused sentence left")

    def told(self, person: Person, text: str) -> str:
        """Fills a sentence; now and then the name stands for a leading pronoun."""
        if text.startswith("{He} ") and self.chance(0.3):
            text = "{name}" + text[4:]
        return person.fill(text)


@dataclass(frozen=True)
class DocumentKind:
    """A kind of document.

    Attributes:
        name: its name.
        summary: one line.
        make: (draws, whatever else a kind lets one fix) -> document.
    """

    name: str
    summary: str
    make: Callable[..., Document]


_ROWS: dict[int, list[list[float]]] = {}


def _level_rows(state: int) -> list[list[float]]:
    if not _ROWS:
        table = level_table()
        _ROWS.update({row: table[row].tolist() for row in range(len(table))})
        _ROWS[-1] = table[-1].tolist()
    return _ROWS[state]


def _pick(uniform: float, weights: Sequence[float]) -> int:
    for index, weight in enumerate(weights):
        uniform -= weight
        if uniform < 0:
            return index
    return int(np.argmax(weights))
