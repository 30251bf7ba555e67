"""Training batches: documents of similar length in one batch, one document per row, action tokens weighted
up.

The number of predicted tokens per row is rounded up to a multiple of `WIDTH_STEP`: few shapes recur, so the
allocator can reuse its memory, and products are aligned.

Chunk c of a training run is a pure function of (seed, c), so a resumed run sees the same batches.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from transformers import PreTrainedTokenizerFast

from emocircuits.organism.corpus import chunk
from emocircuits.organism.documents import Document
from emocircuits.organism.linear_loss import Spread
from emocircuits.organism.tokenizer import TIE

CHUNK = 2048
BATCH_TOKENS = 4096
ACTION_WEIGHT = {"inbox": 32.0, "coding": 16.0}
OTHER_ACTION_WEIGHT = 12.0
NAME_WEIGHT = 4.0
WIDTH_STEP = 16


@dataclass(frozen=True)
class Batch:
    """Token ids (padded on the right) and the loss weight of every token as a target (0: no loss).

    `spread` gives the targets at action tokens: instead of the one action that was drawn, the shares with
    which the generator draws each action there, i.e. the expectation of the loss over the draw. Token numbers
    count the targets `ids[:, 1:]` row by row.
    """

    ids: Int[torch.Tensor, "document position"]
    weights: Float[torch.Tensor, "document position"]
    spread: Spread
    tokens: int


@dataclass(frozen=True)
class Row:
    """One encoded document: ids (with `<bos>` and `<eos>`), and positions of its decisions and feelings."""

    ids: list[int]
    positions: list[int]
    document: Document


def encode_documents(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[Row]:
    """Encodes documents and finds their action tokens."""
    encodings = tokenizer.backend_tokenizer.encode_batch([document.text for document in documents])
    rows = []
    for document, encoding in zip(documents, encodings, strict=True):
        starts = [start for start, _ in encoding.offsets]
        positions = [
            bisect_right(starts, len(marked.prefix) + 1) - 1
            for marked in (*document.decisions, *document.feelings)
        ]
        rows.append(Row([*encoding.ids, tokenizer.eos_token_id], positions, document))
    return rows


def token_id(tokenizer: PreTrainedTokenizerFast, word: str) -> int:
    """The one token of an emotion or action word after a space."""
    return tokenizer.convert_tokens_to_ids("\u2581" + word.replace(" ", TIE))


def chunk_batches(
    tokenizer: PreTrainedTokenizerFast,
    number: int,
    seed: int,
    *,
    size: int = CHUNK,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[Batch]:
    """The batches of one chunk of the corpus."""
    rows = encode_documents(tokenizer, chunk(number, size, seed=seed))
    order = random.Random(f"batches/{seed}/{number}")
    order.shuffle(rows)
    rows.sort(key=lambda row: len(row.ids))
    groups, group = [], []
    for row in rows:
        if group and (len(group) + 1) * len(row.ids) > batch_tokens:
            groups.append(group)
            group = []
        group.append(row)
    groups.append(group)
    if len(group) == 1 and len(groups) > 1:
        groups[-2:] = [groups[-2] + group]
    order.shuffle(groups)
    for group in groups:
        yield _batch(group, tokenizer)


def _batch(group: list[Row], tokenizer: PreTrainedTokenizerFast) -> Batch:
    width = -(-(max(len(row.ids) for row in group) - 1) // WIDTH_STEP) * WIDTH_STEP + 1
    ids = torch.full((len(group), width), tokenizer.pad_token_id)
    weights = torch.zeros(len(group), width)
    numbers, words, shares = [], [], []
    for line, row in enumerate(group):
        ids[line, : len(row.ids)] = torch.tensor(row.ids)
        weights[line, 1 : len(row.ids)] = 1.0
        if row.document.named:
            name = token_id(tokenizer, str(row.document.emotion))
            weights[line, [position for position, token in enumerate(row.ids) if token == name]] = NAME_WEIGHT
        weights[line, row.positions] = ACTION_WEIGHT.get(row.document.kind, OTHER_ACTION_WEIGHT)
        for position, decision in zip(
            row.positions, (*row.document.decisions, *row.document.feelings), strict=True
        ):
            for word, share in decision.target().items():
                numbers.append(line * (width - 1) + position - 1)
                words.append(token_id(tokenizer, word))
                shares.append(share)
    spread = (
        torch.tensor(numbers, dtype=torch.long),
        torch.tensor(words, dtype=torch.long),
        torch.tensor(shares),
    )
    return Batch(ids, weights, spread, sum(len(row.ids) for row in group))
