"""Prompts that show an emotion and never name it: does its direction read it? (after Sofroniew et al. 2026,
validation)

The reading is taken at the last token of the prompt, or of the opened reply where the model has a chat
format, which is where the paper reads what the assistant is about to express.
"""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import token_readings
from emocircuits.models.language_model import LanguageModel

DEFAULT = Path(__file__).parent / "implicit.toml"


def read_implicit(path: str | Path = DEFAULT) -> list[tuple[str, str]]:
    """(emotion, text) of a TOML file with `[[prompt]]` tables.

    Raises:
        UserError: no such file, or a prompt without emotion or text.
    """
    try:
        return [
            (str(prompt["emotion"]), str(prompt["text"]))
            for prompt in tomllib.loads(Path(path).read_text(encoding="utf-8"))["prompt"]
        ]
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"implicit prompts {path} cannot be read ({error})",
            expected="[[prompt]] tables with emotion and text",
        ) from error


def implicit_readings(
    model: LanguageModel,
    directions: EmotionDirections,
    prompts: list[tuple[str, str]] | None = None,
    *,
    site: str | None = None,
) -> pd.DataFrame:
    """`emotion, reading, mean_other, rank, n` of every prompt whose emotion has a direction; rank 1 is the
    highest of n.

    Readings are compared over prompts: each emotion's mean over all prompts is subtracted, since directions
    differ in level.

    Args:
        model: the model.
        directions: its directions.
        prompts: pairs of emotion and text; those that come with the package by default.
        site: where to read; the directions' reading site by default.

    Raises:
        UserError: none of the prompts' emotions has a direction.
    """
    asked = [
        (emotion, text) for emotion, text in (prompts or read_implicit()) if emotion in directions.emotions
    ]
    if not asked:
        raise UserError(
            "no prompt's emotion has a direction", expected=f"some of {', '.join(directions.emotions[:20])}"
        )
    texts = [model.chat_text([{"role": "user", "content": text}]) or text for _, text in asked]
    readings = token_readings(
        model, directions, [model.encode(text) for text in texts], list(directions.emotions), site=site
    )
    last = np.array([values[-1] for values in readings])
    last = last - last.mean(axis=0) if len(last) > 1 else last
    rows = []
    for (emotion, _), values in zip(asked, last, strict=True):
        column = directions.emotions.index(emotion)
        rank = int((values > values[column]).sum()) + 1
        rows.append(
            (emotion, float(values[column]), float(np.delete(values, column).mean()), rank, len(values))
        )
    return pd.DataFrame(rows, columns=["emotion", "reading", "mean_other", "rank", "n"])
