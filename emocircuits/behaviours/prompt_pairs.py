"""Prompt files (one JSON object per line) and their tokens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from emocircuits.behaviours.material import SPLITS, Material, PromptPair
from emocircuits.errors import UserError
from emocircuits.io.atomic import write_text
from emocircuits.io.documents import read_jsonl

FIELDS = ("id", "clean", "corrupt", "split", "true_clean", "true_corrupt", "details")
REQUIRED = ("id", "clean", "corrupt", "split")


@runtime_checkable
class Encoder(Protocol):
    """What is needed of a model here: `emocircuits.models.LanguageModel` has it."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with its beginning-of-sequence token once where the family has one."""


def read_pairs(source: Material | str | Path, split: str | None = None) -> tuple[PromptPair, ...]:
    """Reads and checks a prompt file.

    Args:
        source: a material of a behaviour, or the path of a JSONL file of the same form.
        split: only pairs of this split ("find" or "score"); None for all.

    Raises:
        UserError: no such file, or a line that is not right; the message names the line and the field.
    """
    path = source.path if isinstance(source, Material) else Path(source)
    if split is not None and split not in SPLITS:
        raise UserError(f"split '{split}' of prompt pairs", expected=" or ".join(SPLITS))
    pairs = read_jsonl(path, "prompt", "pairs", _pair)
    return tuple(pair for pair in pairs if split in (None, pair.split))


def write_pairs(path: str | Path, pairs: Sequence[PromptPair]) -> None:
    """Writes a prompt file that `read_pairs` reads back equal."""
    rows = (
        {field: getattr(pair, field) for field in FIELDS[:-1]} | {"details": dict(pair.details)}
        for pair in pairs
    )
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def encode_pairs(model: Encoder, pairs: Sequence[PromptPair]) -> list[tuple[list[int], list[int]]]:
    """Tokens of every pair, checked to be of equal length.

    Raises:
        UserError: a clean and a corrupt prompt differ in token length; the message names the pair and both
            lengths.
    """
    encoded = []
    for pair in pairs:
        clean, corrupt = list(model.encode(pair.clean)), list(model.encode(pair.corrupt))
        if len(clean) != len(corrupt):
            raise UserError(
                f"pair '{pair.id}' has {len(clean)} clean and {len(corrupt)} corrupt tokens",
                expected="equal token length",
                cure="reword one side, or use material written for this model's tokenizer",
            )
        encoded.append((clean, corrupt))
    return encoded


def _pair(row: dict[str, Any], where: str, _: str) -> PromptPair:
    strange = [key for key in row if key not in FIELDS]
    missing = [key for key in REQUIRED if key not in row]
    if strange or missing:
        problem = f"unknown field '{strange[0]}'" if strange else f"no field '{missing[0]}'"
        raise UserError(f"{where}: {problem}", expected=f"the fields {', '.join(FIELDS)}")
    for key in REQUIRED:
        if not isinstance(row[key], str) or not row[key].strip():
            raise UserError(f"{where}: field '{key}' is {row[key]!r}", expected="a text that is not empty")
    for key in ("clean", "corrupt"):
        if row[key] != row[key].rstrip():
            raise UserError(
                f"{where}: field '{key}' ends in white space", expected="the last word before the action word"
            )
    if row["clean"] == row["corrupt"]:
        raise UserError(
            f"{where}: clean and corrupt are the same text", expected="two different circumstances"
        )
    if row["split"] not in SPLITS:
        raise UserError(f"{where}: field 'split' is '{row['split']}'", expected=" or ".join(SPLITS))
    for key in ("true_clean", "true_corrupt"):
        if not _is_probability(row.get(key)):
            raise UserError(
                f"{where}: field '{key}' is {row[key]!r}", expected="a probability from 0 to 1, or null"
            )
    if not isinstance(row.setdefault("details", {}), dict):
        raise UserError(f"{where}: field 'details' is {row['details']!r}", expected="an object")
    return PromptPair(**row)


def _is_probability(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    )
