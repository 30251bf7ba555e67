"""Texts that people wrote, with the emotions that people read in them.

Two forms are read. A `.tsv` file is GoEmotions' (Demszky et al. 2020, arXiv 2005.00547): a text, a tab, the
numbers of its labels with commas between; further columns do not count, and the names of the labels stand one
a line in `labels.txt` (or `emotions.txt`) beside it. A `.jsonl` file has one object a line with `text` and
`emotion` (a name) or `emotions` (a list of names).

A label stands for a direction of the same name, else for the first of its words (`WORDS_OF`) that has one.
Texts of several labels are left out, and so is neutral text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from emocircuits.errors import UserError
from emocircuits.io.documents import read_jsonl
from emocircuits.io.lines import lines_of

NEUTRAL = "neutral"
NAME_FILES = ("labels.txt", "emotions.txt")
WORDS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "amusement": ("amused",),
        "anger": ("angry", "furious", "enraged", "mad", "irate"),
        "annoyance": ("annoyed", "irritated", "exasperated"),
        "caring": ("compassionate", "sympathetic", "kind"),
        "confusion": ("puzzled", "perplexed", "bewildered"),
        "disgust": ("disgusted",),
        "embarrassment": ("embarrassed", "ashamed", "mortified"),
        "excitement": ("excited", "thrilled", "enthusiastic"),
        "fear": ("afraid", "scared", "frightened", "terrified"),
        "gratitude": ("grateful", "thankful"),
        "grief": ("grief-stricken", "heartbroken"),
        "joy": ("happy", "joyful", "cheerful"),
        "love": ("loving",),
        "nervousness": ("nervous", "anxious"),
        "optimism": ("optimistic", "hopeful"),
        "pride": ("proud",),
        "relief": ("relieved",),
        "remorse": ("guilty", "regretful", "remorseful", "sorry"),
        "sadness": ("sad", "unhappy"),
        "surprise": ("surprised", "astonished", "amazed"),
    }
)
"""GoEmotions' labels and the emotions they stand for, the nearest first. Labels that name no emotion of the
lexicon (admiration, approval, curiosity, desire, disappointment, disapproval, realization) stand for none.
"""


@dataclass(frozen=True)
class HumanText:
    """A text as a person wrote it.

    Attributes:
        id: unique name.
        text: the text.
        labels: the emotions that people read in it, in the words of its file.
    """

    id: str
    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """The texts that directions are compared on: one emotion each, every emotion often enough.

    Attributes:
        texts: they.
        emotions: names of directions.
        labels: the emotion of each text, a number of `emotions`.
        sources: of each emotion the labels of the file that stand for it.
        left_out: of the file's other texts, why and how many.
    """

    texts: tuple[HumanText, ...]
    emotions: tuple[str, ...]
    labels: Int[np.ndarray, "text"]
    sources: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, int]


def read_human_texts(path: str | Path) -> list[HumanText]:
    """Reads a file of either form.

    Raises:
        UserError: no such file, another ending, no names of labels beside a `.tsv`, or a line that is not
            right; the message names it.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        return read_jsonl(path, "human text", "texts", _of_object)
    if path.suffix == ".tsv":
        return _read_tsv(path)
    raise UserError(
        f"{path.name} is no file of human text that is known",
        expected="a .tsv file in the form of GoEmotions, or a .jsonl file with text and emotion",
    )


def emotion_of(label: str, emotions: Sequence[str]) -> str | None:
    """The direction that a label stands for, of those there are; None where there is none."""
    return next((word for word in (label, *WORDS_OF.get(label, ())) if word in emotions), None)


def labelled_set(texts: Sequence[HumanText], emotions: Sequence[str], *, least: int = 20) -> LabelledSet:
    """The texts whose one label stands for one of the emotions, which at least `least` texts show.

    Raises:
        UserError: no label stands for any of the emotions, or fewer than two emotions have enough texts.
    """
    left_out: Counter[str] = Counter()
    found: dict[str, list[HumanText]] = {}
    for text in texts:
        labels = [label for label in text.labels if label != NEUTRAL]
        emotion = emotion_of(labels[0], emotions) if len(text.labels) == 1 and labels else None
        if emotion is not None:
            found.setdefault(emotion, []).append(text)
        elif len(text.labels) > 1:
            left_out["several labels"] += 1
        else:
            left_out[f"no direction: {labels[0]}" if labels else NEUTRAL] += 1
    counts = {emotion: len(found[emotion]) for emotion in emotions if emotion in found}
    if not found:
        known = sorted({label for text in texts for label in text.labels})
        raise UserError(
            f"no text has a single label that has a direction (labels: {', '.join(known[:30]) or 'none'})",
            expected=f"some texts that are labelled with one of {', '.join(list(emotions)[:30])}",
            cure="bring texts with these labels, or learn directions of more emotions",
        )
    chosen = tuple(emotion for emotion, count in counts.items() if count >= least)
    if len(chosen) < 2:
        raise UserError(
            f"{len(chosen)} emotions have {least} texts of that one label: "
            + ", ".join(f"{emotion} {count}" for emotion, count in counts.items()),
            expected="at least two emotions with so many",
            cure="bring more texts, or ask for fewer with --least N",
        )
    left_out.update(
        {f"fewer than {least}: {emotion}": n for emotion, n in counts.items() if emotion not in chosen}
    )
    return LabelledSet(
        texts=tuple(text for emotion in chosen for text in found[emotion]),
        emotions=chosen,
        labels=np.repeat(np.arange(len(chosen)), [counts[emotion] for emotion in chosen]),
        sources=tuple(tuple(sorted({text.labels[0] for text in found[emotion]})) for emotion in chosen),
        left_out=dict(sorted(left_out.items(), key=lambda item: (-item[1], item[0]))),
    )


def _read_tsv(path: Path) -> list[HumanText]:
    if not path.is_file():
        raise UserError(
            f"human text file {path} does not exist", expected="lines of a text, a tab and label numbers"
        )
    names_file = next((path.parent / name for name in NAME_FILES if (path.parent / name).is_file()), None)
    if names_file is None:
        raise UserError(
            f"no {NAME_FILES[0]} lies beside {path}",
            expected="the names of the labels, one a line, in the order of their numbers",
            cure=f"put GoEmotions' list of emotions into {path.parent / NAME_FILES[0]}",
        )
    names = [name.strip() for name in names_file.read_text(encoding="utf-8").split("\n") if name.strip()]
    try:
        lines = lines_of(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"human text file {path} is not UTF-8 text") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        text, tab, rest = line.partition("\t")
        where, codes = f"{path.name} line {number}", rest.partition("\t")[0].strip()
        if not tab or not text.strip() or not codes:
            raise UserError(
                f"{where} is {line[:40]!r}", expected="a text, a tab, and label numbers with commas between"
            )
        labels = tuple(dict.fromkeys(_name(code.strip(), names, where) for code in codes.split(",")))
        found.append(HumanText(f"{path.stem}/{number}", text.strip(), labels))
    if not found:
        raise UserError(f"human text file {path} holds no texts", expected="at least one line")
    return found


def _name(code: str, names: Sequence[str], where: str) -> str:
    if not code.isdecimal() or int(code) >= len(names):
        raise UserError(
            f"{where} has the label {code!r}",
            expected=f"a number of 0 to {len(names) - 1}, the lines of the list of labels beside it",
            cure="use the list of labels that belongs to this file",
        )
    return names[int(code)]


def _of_object(row: dict[str, Any], where: str, default_id: str) -> HumanText:
    text, labels = row.get("text"), row.get("emotions", row.get("emotion"))
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: field 'text' is {text!r}", expected="a text")
    if not isinstance(labels, list) or not labels or not all(isinstance(name, str) for name in labels):
        raise UserError(
            f"{where}: field 'emotion' is {labels!r}",
            expected="a name in 'emotion', or a list of names in 'emotions'",
            cure=f"label text without emotion '{NEUTRAL}'",
        )
    names = tuple(dict.fromkeys(name.strip().lower() or NEUTRAL for name in labels))
    return HumanText(str(row.get("id", default_id)), text.strip(), names)
