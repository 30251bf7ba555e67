"""Training batches: documents of similar length in one batch, one document per row, action tokens weighted up.

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

CHUNK = 2048
BATCH_TOKENS = 6144
ACTION_WEIGHT = 8.0


@dataclass(frozen=True)
class Batch:
    """Token ids (padded on the right) and the loss weight of every token as a target (0: no loss)."""

    ids: Int[torch.Tensor, "document position"]
    weights: Float[torch.Tensor, "document position"]
    tokens: int


def encode_documents(
    tokenizer: PreTrainedTokenizerFast, documents: list[Document]
) -> list[tuple[list[int], list[int]]]:
    """Ids of every document (with `<bos>` and `<eos>`) and the places of its action tokens."""
    encodings = tokenizer.backend_tokenizer.encode_batch([document.text for document in documents])
    rows = []
    for document, encoding in zip(documents, encodings):
        starts = [start for start, _ in encoding.offsets]
        places = [bisect_right(starts, len(decision.prefix) + 1) - 1 for decision in document.decisions]
        rows.append(([*encoding.ids, tokenizer.eos_token_id], places))
    return rows


def chunk_batches(
    tokenizer: PreTrainedTokenizerFast, number: int, seed: int, *, size: int = CHUNK, batch_tokens: int = BATCH_TOKENS
) -> Iterator[Batch]:
    """The batches of one chunk of the corpus."""
    rows = encode_documents(tokenizer, chunk(number, size, seed=seed))
    order = random.Random(f"batches/{seed}/{number}")
    order.shuffle(rows)
    rows.sort(key=lambda row: len(row[0]))
    groups, group = [], []
    for row in rows:
        if group and (len(group) + 1) * len(row[0]) > batch_tokens:
            groups.append(group)
            group = []
        group.append(row)
    groups.append(group)
    order.shuffle(groups)
    for group in groups:
        yield _batch(group, tokenizer.pad_token_id)


def _batch(group: list[tuple[list[int], list[int]]], pad: int) -> Batch:
    width = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), width), pad)
    weights = torch.zeros(len(group), width)
    for row, (tokens, places) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, 1 : len(tokens)] = 1.0
        weights[row, places] = ACTION_WEIGHT
    return Batch(ids, weights, sum(len(tokens) for tokens, _ in group))
