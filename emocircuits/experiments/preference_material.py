"""What is asked in the preference experiment: activities, questions about two of them, and prompts that know
where each stands.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from jaxtyping import Int

from emocircuits.errors import UserError
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.spans import encode_with_offsets, tokens_of
from emocircuits.numerics import generator
from emocircuits.organism.world import WORLD_DIR

DEFAULT = WORLD_DIR / "preference.toml"
"""The 64 activities (8 categories) of the organism; plain English, so other models can be asked about them
too.
"""


@dataclass(frozen=True)
class Activity:
    """Something one may want to do."""

    id: str
    category: str
    text: str


@dataclass(frozen=True)
class PreferenceMaterial:
    """Activities and how to ask about two of them.

    Attributes:
        activities: the activities.
        questions: texts with `{A}` and `{B}` that end right before the answer.
        labels: the answers, each one token.
    """

    activities: tuple[Activity, ...]
    questions: tuple[str, ...]
    labels: tuple[str, str] = ("A", "B")


@dataclass(frozen=True, eq=False)
class OptionPrompt:
    """One question about two activities.

    Attributes:
        first, second: numbers of the activities offered as A and as B.
        tokens: token ids.
        spans: tokens of the first and of the second activity's text.
    """

    first: int
    second: int
    tokens: tuple[int, ...]
    spans: tuple[slice, slice]


def read_material(path: str | Path = DEFAULT) -> PreferenceMaterial:
    """A TOML file with `question = […]`, perhaps `labels = […]`, and `[[activity]]` tables with `id`, `text`
    and `category`.

    Raises:
        UserError: no such file, fewer than four activities, an id twice, or a question without both places.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        activities = tuple(
            Activity(str(row["id"]), str(row.get("category", "")), str(row["text"]))
            for row in table["activity"]
        )
        questions, labels = (
            tuple(map(str, table["question"])),
            tuple(map(str, table.get("labels", ("A", "B")))),
        )
    except OSError as error:
        raise UserError(
            f"preference file {path} cannot be read", expected="a TOML file with [[activity]] tables"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"preference file {path} is not right: {error}", expected="question = […] and [[activity]] tables"
        ) from error
    if len({activity.id for activity in activities}) < max(4, len(activities)):
        raise UserError(
            f"preference file {path} has {len(activities)} activities",
            expected="at least four, each with an id of its own",
        )
    for question in questions:
        if question.count("{A}") != 1 or question.count("{B}") != 1:
            raise UserError(f"preference question '{question}'", expected="{A} and {B} once each")
    if not questions or len(labels) != 2:
        raise UserError(
            f"preference file {path} has {len(questions)} questions and {len(labels)} labels",
            expected="some, and two",
        )
    return PreferenceMaterial(activities, questions, (labels[0], labels[1]))


def ordered_pairs(n: int, most: int | None = None, seed: int = 0) -> Int[np.ndarray, "pair 2"]:
    """All ordered pairs of n items, or so many of them that every item is offered equally often (to within
    one).

    A part is made of whole rounds: in every round each item is once the first and once the second.
    """
    if most is None or most >= n * (n - 1):
        return np.array(list(permutations(range(n), 2)))
    source = generator(seed, "pairs")
    order, shifts = source.permutation(n), 1 + source.permutation(n - 1)
    rounds = [
        np.stack([order, np.roll(order, -int(shift))], axis=1) for shift in shifts[: max(1, -(-most // n))]
    ]
    return np.concatenate(rounds)[: max(most, n)]


def option_prompts(
    model: LanguageModel, material: PreferenceMaterial, pairs: Int[np.ndarray, "pair 2"], seed: int = 0
) -> list[OptionPrompt]:
    """One prompt per pair; questions are dealt out at random, equally often."""
    which = generator(seed, "questions").permutation(len(pairs)) % len(material.questions)
    texts, option_spans = [], []
    for (first, second), question in zip(pairs, which, strict=True):
        filled, spans = _fill(
            material.questions[question],
            {"{A}": material.activities[first].text, "{B}": material.activities[second].text},
        )
        texts.append(filled)
        option_spans.append((spans["{A}"], spans["{B}"]))
    encoded = encode_with_offsets(model, texts)
    return [
        OptionPrompt(
            int(first), int(second), tuple(tokens), (tokens_of(offsets, *at_a), tokens_of(offsets, *at_b))
        )
        for (first, second), (tokens, offsets), (at_a, at_b) in zip(pairs, encoded, option_spans, strict=True)
    ]


def _fill(question: str, texts: dict[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """The question with its places filled, and where each text stands."""
    filled, spans = "", {}
    rest = question
    for slot in sorted(texts, key=question.index):
        before, rest = rest.split(slot, 1)
        filled += before
        spans[slot] = (len(filled), len(filled) + len(texts[slot]))
        filled += texts[slot]
    return filled + rest, spans


def stratified_half(values: Sequence[float], seed: int = 0) -> Int[np.ndarray, "item"]:
    """1 for one half of the items and 0 for the other, balanced over the values: neighbours in rank are split
    at random.
    """
    order, source, half = (
        np.argsort(values, kind="stable"),
        generator(seed, "half"),
        np.zeros(len(values), dtype=np.int64),
    )
    for start in range(0, len(order), 2):
        pair = order[start : start + 2]
        half[pair[source.integers(len(pair))]] = 1
    return half
