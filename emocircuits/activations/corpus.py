"""Further texts for the SAEs: a text file, JSONL, a dataset's name, or what every installation has.

    corpus = ["organism", "python", "notes.txt", "datasets:roneneldan/TinyStories"]

Each is cut into pieces of about 120 words until `corpus_words` are reached; every tenth piece is held out, so
that SAEs are measured on text they did not learn from.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from emocircuits.activations.prompts import LabelledText
from emocircuits.errors import UserError
from emocircuits.io.lines import lines_of
from emocircuits.organism.corpus import generate, neutral_documents

PIECE = 120  # words of a piece
HELD_OUT = 10  # every tenth piece
DATASETS = "datasets:"
FIELDS = ("text", "content")
BUILT_IN = ("organism", "python")
WORLD = ("inbox", "coding", "dialogue", "sycophancy", "preference", "activity", "numeric", "story")
BLOCK = 64  # documents of a kind that are made at a time


def corpus_texts(source: str, words: int, seed: int = 0) -> list[LabelledText]:
    """Pieces of a corpus, of kind `corpus`.

    Args:
        source: `organism` (documents of all kinds of the organism's world), `python` (the documentation that
            comes with Python), the path of a text file or of JSONL with a field `text`, or `datasets:NAME`,
            which is fetched by Hugging Face's `datasets` where it is not in its cache.
        words: about how many words.
        seed: of the organism's documents.

    Raises:
        UserError: a source that is not known, cannot be read, or is empty.
    """
    pieces: list[str] = []
    for piece in _pieces(_documents(source, seed)):
        pieces.append(piece)
        words -= len(piece.split())
        if words <= 0:
            break
    if not pieces:
        raise UserError(f"the corpus {source} is empty", expected="at least one text")
    return [
        LabelledText(
            id=f"corpus/{source}/{number}",
            text=piece,
            kind="corpus",
            split="held_out" if number % HELD_OUT == HELD_OUT - 1 else "train",
        )
        for number, piece in enumerate(pieces)
    ]


def check_corpus(source: str) -> None:
    """Refuses a corpus that is not there; fetches nothing.

    Raises:
        UserError: names the source.
    """
    if source in BUILT_IN or source.startswith(DATASETS):
        return
    if Path(source).suffix not in (".txt", ".md", ".jsonl"):
        raise UserError(
            f"the corpus '{source}' is not known",
            expected=f"{', '.join(BUILT_IN)}, a .txt, .md or .jsonl file, or {DATASETS}NAME",
        )
    if not Path(source).is_file():
        raise UserError(f"there is no corpus {source}", expected="a text file or JSONL with a field 'text'")


def _documents(source: str, seed: int) -> Iterable[str]:
    check_corpus(source)
    if source == "organism":
        return _world(20_000 + seed)  # other documents than the stories' own
    if source == "python":
        from pydoc_data.topics import topics

        return (topics[name] for name in sorted(topics))
    if source.startswith(DATASETS):
        return _dataset(source.removeprefix(DATASETS))
    text = _read(Path(source))
    return _jsonl(source, text) if source.endswith(".jsonl") else text.split("\n\n\n")


def _world(seed: int) -> Iterator[str]:
    """Documents of all kinds in turn, without end."""
    for block in itertools.count():
        columns = [generate(kind, BLOCK, seed + block, "train") for kind in WORLD]
        columns.append(neutral_documents(BLOCK, seed + block))
        for row in zip(*columns, strict=False):
            yield from (document.text for document in row)


def _dataset(name: str) -> Iterator[str]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split="train", streaming=True)
        first = next(iter(rows))
    except Exception as error:  # whatever a network, a cache or a dataset's own files raise
        raise UserError(
            f"the dataset '{name}' cannot be read ({str(error).splitlines()[0] if str(error) else error!r})",
            expected="the name of a dataset with a split 'train'",
            cure="check the name and the network, or give a text file",
        ) from error
    field = next((field for field in FIELDS if isinstance(first.get(field), str)), None)
    if field is None:
        raise UserError(
            f"the dataset '{name}' has the fields {', '.join(first)}", expected=f"a text in {FIELDS[0]}"
        )
    return (row[field] for row in rows)


def _jsonl(source: str, text: str) -> Iterator[str]:
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{source}, line {number}: not JSON", expected='{"text": …}') from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UserError(f"{source}, line {number}: no field 'text'", expected='{"text": …}')
        yield row["text"]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"the corpus {path} is not UTF-8", cure="convert it") from error


def _pieces(documents: Iterable[str]) -> Iterator[str]:
    """Whole lines together until they have enough words; a longer line is cut; no piece spans documents."""
    for document in documents:
        held: list[str] = []
        count = 0
        for line in lines_of(document.replace("\0", "")):
            words = line.split()
            for begin in range(0, max(1, len(words)), PIECE):
                part = line if len(words) <= PIECE else " ".join(words[begin : begin + PIECE])
                if count and count + len(part.split()) > PIECE:
                    yield "\n".join(held).strip()
                    held, count = [], 0
                held.append(part)
                count += len(part.split())
        if count:
            yield "\n".join(held).strip()
