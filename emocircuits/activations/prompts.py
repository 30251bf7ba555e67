"""Texts with labels: what goes into an activation store."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from emocircuits.errors import UserError


@dataclass(frozen=True)
class LabelledText:
    """One text and what is known about it.

    Attributes:
        id: unique name.
        text: the text, without BOS.
        emotion: the emotion it shows, "" where there is none.
        topic: the everyday topic, "" where there is none.
        kind: what sort of text: `story`, `dialogue`, `neutral`, `inbox`, `coding`, …
        behaviour: the behaviour it belongs to, "" where there is none.
        side: `clean` or `corrupt` for prompt pairs, "" otherwise.
        split: which part of the data it belongs to, e.g. `train` or `held_out`.
        named: whether the text says the emotion's name.
    """

    id: str
    text: str
    emotion: str = ""
    topic: str = ""
    kind: str = "story"
    behaviour: str = ""
    side: str = ""
    split: str = "train"
    named: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, str) and not value.isprintable():  # a fast answer for nearly all
                _refuse_odd(self.id, name, value)


def _refuse_odd(text: str, field: str, value: str) -> None:
    """Raises UserError for characters that no file can hold, and in labels for NUL."""
    what = "half of a surrogate pair" if any("\ud800" <= char <= "\udfff" for char in value) else ""
    if not what and field != "text" and "\0" in value:
        what = "the character NUL"
    if what:
        raise UserError(
            f"the {field} of the text {text!r} holds {what}",
            expected="characters that can be written to a file",
            cure="clean the texts first",
        )


def label_table(texts: Sequence[LabelledText]) -> pd.DataFrame:
    """One row per text with every label (not the text itself).

    Raises:
        UserError: no texts, or an id that occurs twice.
    """
    if not texts:
        raise UserError("there are no texts to collect activations of")
    seen: set[str] = set()
    for text in texts:
        if text.id in seen:
            raise UserError(f"the text id '{text.id}' occurs twice", expected="one id per text")
        seen.add(text.id)
    return pd.DataFrame([vars(text) for text in texts]).drop(columns="text")
