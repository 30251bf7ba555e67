"""Labelled texts as JSONL: one object per line with the fields of `LabelledText`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from emocircuits.activations.prompts import LabelledText
from emocircuits.errors import UserError
from emocircuits.io.documents import read_jsonl

FIELDS = {item.name: item.type for item in fields(LabelledText)}


def read_stories(path: str | Path) -> list[LabelledText]:
    """Reads texts, the program's own or a user's.

    Only `text` must be there; a story needs `emotion` too. A missing `id` becomes the file's name and the
    line number.

    Raises:
        UserError: no such file, or a line that is not right; the message names line and field.
    """
    return read_jsonl(path, "story", "texts", _text)


def stories_jsonl(texts: Sequence[LabelledText]) -> str:
    """The contents of a file that `read_stories` reads back equal."""
    return "".join(json.dumps(asdict(text), ensure_ascii=False) + "\n" for text in texts)


def _text(row: dict[str, Any], where: str, default_id: str) -> LabelledText:
    for key, value in row.items():
        if key not in FIELDS:
            raise UserError(f"{where}: unknown field '{key}'", expected=f"some of {', '.join(FIELDS)}")
        if not isinstance(value, FIELDS[key]):
            raise UserError(f"{where}: field '{key}' is {value!r}", expected=FIELDS[key].__name__)
    if not row.get("text", "").strip():
        raise UserError(f"{where}: field 'text' is missing or empty", expected="a text")
    text = LabelledText(**{"id": default_id} | row)
    if text.kind == "story" and not text.emotion:
        raise UserError(
            f"{where}: field 'emotion' is missing or empty",
            expected="an emotion for a text of kind 'story'",
            cure="give the emotion, or kind 'neutral'",
        )
    return text
