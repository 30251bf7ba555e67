"""A corpus scan: the passages of any text where each emotion reads highest.

A text is cut at blank lines and, where that is still too long, after a sentence, into pieces that fit the
model's context; a passage is one sentence of a piece, read with everything before it in the piece. Its
reading is the mean over its tokens (the attention sink left out). Memory does not grow with the text: only
the best passages of each emotion are kept.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import token_readings
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.spans import encode_with_offsets, tokens_of
from emocircuits.progress import bar

_SENTENCE = re.compile(r"\S.*?(?:[.!?…]+[\"'”’)\]]*(?=\s|$)|$)", re.DOTALL)
BATCH = 64
MAX_WINDOW = 512


@dataclass(frozen=True)
class Piece:
    """A stretch of text that goes through the model at once."""

    text: str
    line: int
    sentences: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Scan:
    """What a scan found.

    Attributes:
        passages: distinct ones: `emotion, rank, reading, z` (in standard deviations over all passages of the
            text), `line` (first line of the piece it stands in, from 1), `text`.
        summary: `emotion, mean, sd` of the readings over all passages.
        n_passages, n_tokens: how much was read.
    """

    passages: pd.DataFrame
    summary: pd.DataFrame
    n_passages: int
    n_tokens: int


@dataclass(frozen=True)
class ScanSettings:
    """How much is read at once and kept.

    Attributes:
        top: passages kept per emotion.
        min_tokens: sentences with fewer tokens are not passages.
        window: most tokens of a piece; the context or 512 by default.
        batch_tokens: tokens per forward pass.
    """

    top: int = 3
    min_tokens: int = 5
    window: int | None = None
    batch_tokens: int = 4096


def scan_text(
    model: LanguageModel,
    directions: EmotionDirections,
    lines: Iterable[str],
    *,
    emotions: Sequence[str] | None = None,
    site: str | None = None,
    settings: ScanSettings | None = None,
) -> Scan:
    """Reads a text and keeps the `top` passages of every emotion.

    Args:
        model: the model the directions belong to.
        directions: the directions.
        lines: the text, line by line (an open file will do).
        emotions: which directions; all by default.
        site: where to read; the directions' reading site by default.
        settings: how much is read at once and kept.

    Raises:
        UserError: no passage is long enough, or directions of another model.
    """
    emotions = tuple(directions.emotions if emotions is None else emotions)
    directions.check_model(model.name, model.content_hash, model.d_model)
    settings = settings or ScanSettings()
    top, window = settings.top, min(model.n_ctx, settings.window or MAX_WINDOW)
    if top < 1 or window < 16:
        raise UserError(
            f"{top} passages and pieces of {window} tokens", expected="at least 1 and at least 16"
        )
    best: list[dict[str, tuple[float, int]]] = [{} for _ in emotions]
    floor = np.full(len(emotions), -np.inf)  # the reading a passage must beat
    total, squares, n_passages, n_tokens = np.zeros(len(emotions)), np.zeros(len(emotions)), 0, 0
    with bar(None, "scan (passages)") as shown:
        for pieces in _batched(text_pieces(model, lines, window), BATCH):
            encoded = encode_with_offsets(model, [piece.text for piece in pieces])
            ids = [tokens[: model.n_ctx] for tokens, _ in encoded]
            readings = token_readings(
                model, directions, ids, emotions, site=site, batch_tokens=settings.batch_tokens
            )
            for piece, (_, offsets), values in zip(pieces, encoded, readings, strict=True):
                n_tokens += len(values)
                for start, stop in piece.sentences:
                    span = tokens_of(offsets, start, stop)
                    rows = values[max(1, span.start) : span.stop]
                    if len(rows) < settings.min_tokens:
                        continue
                    means = rows.mean(axis=0)
                    total, squares, n_passages = total + means, squares + means**2, n_passages + 1
                    for column in np.flatnonzero(means > floor):
                        floor[column] = _keep(
                            best[column], piece.text[start:stop], float(means[column]), piece.line, top
                        )
            shown.update(sum(len(piece.sentences) for piece in pieces))
    if not n_passages:
        raise UserError(
            f"the text has no sentence of at least {settings.min_tokens} tokens",
            expected="text",
            cure="lower the least number of tokens",
        )
    mean = total / n_passages
    sd = np.sqrt(np.maximum(squares / n_passages - mean**2, 0))
    rows = [
        (emotion, rank + 1, value, (value - mean[column]) / sd[column] if sd[column] > 0 else 0.0, line, text)
        for column, emotion in enumerate(emotions)
        for rank, (text, (value, line)) in enumerate(best[column].items())
    ]
    return Scan(
        pd.DataFrame(rows, columns=["emotion", "rank", "reading", "z", "line", "text"]),
        pd.DataFrame({"emotion": emotions, "mean": mean, "sd": sd}),
        n_passages,
        n_tokens,
    )


def scan_file(
    model: LanguageModel, directions: EmotionDirections, path: str | Path, **options: object
) -> Scan:
    """`scan_text` of a UTF-8 file.

    Raises:
        UserError: no such file, or not UTF-8 text.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"text file {path} does not exist", expected="a file of plain text")
    try:
        with path.open(encoding="utf-8") as file:
            return scan_text(model, directions, file, **options)
    except UnicodeDecodeError as error:
        raise UserError(f"text file {path} is not UTF-8 text") from error


def text_pieces(model: LanguageModel, lines: Iterable[str], window: int) -> Iterator[Piece]:
    """Pieces of at most `window` tokens (a longer sentence is cut there), in order, with the places of their
    sentences.
    """
    for line, paragraph in _paragraphs(lines):
        spans = [match.span() for match in _SENTENCE.finditer(paragraph)]
        if not spans:
            continue
        ((_, offsets),) = encode_with_offsets(model, [paragraph])
        before = int(model.bos_id is not None)
        tokens = [tokens_of(offsets, *span) for span in spans]
        start = 0
        while start < len(spans):
            stop = start + 1
            while stop < len(spans) and tokens[stop].stop - tokens[start].start + before <= window:
                stop += 1
            first, last = spans[start][0], spans[stop - 1][1]
            # one sentence longer than the window
            if tokens[stop - 1].stop - tokens[start].start + before > window:
                last = int(offsets[tokens[start].start + window - before - 1, 1])
            inside = tuple((low - first, min(high, last) - first) for low, high in spans[start:stop])
            yield Piece(paragraph[first:last], line + paragraph.count("\n", 0, first), inside)
            start = stop


def _keep(kept: dict[str, tuple[float, int]], text: str, value: float, line: int, top: int) -> float:
    """Puts a passage among the best (each wording once, highest first) and returns what the next one must
    beat.
    """
    if text not in kept or kept[text][0] < value:
        kept[text] = (value, line)
        ordered = sorted(kept.items(), key=lambda entry: -entry[1][0])[:top]
        kept.clear()
        kept.update(ordered)
    return min(reading for reading, _ in kept.values()) if len(kept) == top else -np.inf


def _paragraphs(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    held: list[str] = []
    number = 0
    for number, line in enumerate(lines, start=1):
        if line.strip():
            held.append(line.rstrip("\n"))
        elif held:
            yield number - len(held), "\n".join(held)
            held = []
    if held:
        yield number - len(held) + 1, "\n".join(held)


def _batched(pieces: Iterator[Piece], size: int) -> Iterator[list[Piece]]:
    held: list[Piece] = []
    for piece in pieces:
        held.append(piece)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
