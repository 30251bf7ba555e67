"""Residual streams of labelled texts at every block, in one forward pass per batch.

Texts of the same tokens have the same rows: the first goes through the model, the others take its rows (many
of the organism's stories fit several emotions, so that two texts of five are twins of another).

Texts of similar length go through the model together, padded on the right: in a causal model nothing that
comes later reaches an earlier position, so a text's rows do not depend on its batch (tested: one at a time
and eight at a time agree). Every position is stored, with its number. Position 0 is an attention sink with a
norm of its own: readers of the store leave it out with `positions > 0`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.collect.prompts import LabelledText, label_table
from emocircuits.errors import UserError, unknown
from emocircuits.models.language_model import LanguageModel
from emocircuits.names import layer_of
from emocircuits.passes.hooks import recorded
from emocircuits.progress import bar
from emocircuits.ranks import barrier, ranks


@dataclass(frozen=True)
class StoreSettings:
    """How a store is written.

    Attributes:
        batch_tokens: tokens (with padding) per forward pass.
        shard_rows: most rows of a shard; None chooses.
        metadata: kept in the store next to the model's name and hash.
    """

    batch_tokens: int = 2048
    shard_rows: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def collect_residuals(
    model: LanguageModel,
    texts: Sequence[LabelledText],
    path: str | Path,
    *,
    sites: Sequence[str] | None = None,
    dtype: str = "bfloat16",
    replace: bool = False,
    settings: StoreSettings | None = None,
) -> ActivationStore:
    """Writes the activations of all texts to a store; a killed run resumes at the shard it was in.

    The ranks of a job (`emocircuits.ranks`) share the shards and fill one store, with the same bytes as
    one process.

    Args:
        model: the model.
        texts: texts with labels.
        path: the store's file.
        sites: `hook_resid_post` sites; all blocks by default.
        dtype: float32 or bfloat16 in the file.
        replace: delete a store of other texts, sites or another model that lies at `path`.
        settings: sizes of batches and shards, and further metadata.

    Raises:
        UserError: an unknown site, a text that is empty or longer than the model's context, an id that occurs
            twice, or another store at `path`.
    """
    sites = tuple(model.sites if sites is None else sites)
    for site in sites:
        if site not in model.sites:
            raise unknown("site", site, model.sites)
    table = label_table(texts)
    tokens = encode_texts(model, texts)
    settings = settings or StoreSettings()
    about = {**settings.metadata, "model_name": model.name, "model_hash": model.content_hash}
    lengths = np.array([len(ids) for ids in tokens])
    with ActivationStoreWriter(
        path,
        sites,
        model.d_model,
        table,
        tokens,
        about,
        dtype,
        shard_rows=settings.shard_rows,
        replace=replace,
        joint=True,
    ) as writer:
        done, twin_of = writer.done, first_alike(tokens)
        barrier()  # all ranks have seen the same shards done
        left = [shard for shard in writer.shards if not done[shard.start]]
        total = sum(int(lengths[shard.start : shard.stop].sum()) for shard in ranks().mine(left))
        with row_reader(model, sites, dtype) as read, bar(total, "collect") as shown:

            def fill(texts: Int[np.ndarray, "_"], rows_of: Callable[..., dict[str, np.ndarray]]) -> None:
                for batch in length_batches(lengths[texts], settings.batch_tokens):
                    writer.append(texts[batch], rows_of(texts[batch]))
                    shown.update(int(lengths[texts[batch]].sum()))

            for turn in range(0, len(left), ranks().size):
                mine = [
                    np.arange(shard.start, shard.stop) for shard in ranks().mine(left[turn:][: ranks().size])
                ]
                for texts in mine:
                    # batches are those of the whole shard: rounding depends on the shape of a batch
                    first = texts[twin_of[texts] == texts]
                    fill(first, lambda batch: read([tokens[text] for text in batch]))
                for rank in range(ranks().size):  # a twin's rows may lie in an earlier rank's shard
                    for texts in mine if rank == ranks().rank else ():
                        twins = texts[twin_of[texts] != texts]
                        fill(twins, lambda batch: writer.written(twin_of[batch]))
                    barrier()
        writer.finish()
    return ActivationStore.open(path)


def encode_texts(model: LanguageModel, texts: Sequence[LabelledText]) -> list[Int[np.ndarray, "pos"]]:
    """Token ids of every text.

    Raises:
        UserError: a text without tokens or longer than the context; the message names it.
    """
    distinct = list(dict.fromkeys(text.text for text in texts))
    ids_of = {
        text: np.asarray(ids, dtype=np.int64)
        for text, ids in zip(distinct, model.encode_batch(distinct), strict=True)
    }
    encoded = []
    for text in texts:
        ids = ids_of[text.text]
        if len(ids) <= int(model.bos_id is not None):
            raise UserError(f"the text '{text.id}' is empty")
        if len(ids) > model.n_ctx:
            raise UserError(
                f"the text '{text.id}' has {len(ids)} tokens",
                expected=f"at most the context of {model.n_ctx}",
                cure="shorten it",
            )
        encoded.append(ids)
    return encoded


def first_alike(tokens: Sequence[Int[np.ndarray, "_"]]) -> Int[np.ndarray, "prompt"]:
    """For each text the number of the first text with the same tokens; often its own."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(ids.tobytes(), number) for number, ids in enumerate(tokens)])


def length_batches(lengths: Int[np.ndarray, "prompt"], batch_tokens: int) -> Iterator[Int[np.ndarray, "_"]]:
    """Batches of texts of similar length, longest first; each holds at most `batch_tokens` with padding (or
    one text).
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


@contextmanager
def row_reader(
    model: LanguageModel, sites: Sequence[str], dtype: str = "float32"
) -> Iterator[Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]]:
    """A function from the token ids of several texts to their residual streams, by one forward pass.

    It gives per site `(row, d_model)`: the rows of one text after another, without padding. The hooks stand
    for as long as the context does, because setting them costs as much as a small forward pass.

    Args:
        model: the model.
        sites: `hook_resid_post` sites.
        dtype: `float32`, or `bfloat16` for bit patterns as uint16.
    """
    device = model.bridge.cfg.device
    kept = torch.zeros(0, dtype=torch.int64)

    def rows_of(value: Tensor) -> np.ndarray:
        rows = value.flatten(0, 1).to(torch.bfloat16 if dtype == "bfloat16" else torch.float32)
        rows = rows if len(kept) == len(rows) else rows.index_select(0, kept)
        return (rows.view(torch.uint16) if dtype == "bfloat16" else rows).cpu().numpy()

    last = max(layer_of(site) for site in sites) + 1
    limits = {"stop_at_layer": last} if last < model.n_layers else {"logits_to_keep": 1}

    def read(tokens: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal kept
        lengths = [len(ids) for ids in tokens]
        padded = np.zeros((len(tokens), max(lengths)), dtype=np.int64)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = ids
        kept = torch.from_numpy(np.flatnonzero(np.arange(max(lengths)) < np.array(lengths)[:, None])).to(
            device
        )
        with torch.no_grad():
            model.bridge(torch.from_numpy(padded).to(device), use_cache=False, **limits)
        return dict(held)

    with recorded(model.bridge, (), optional=sites, keep=rows_of) as held:
        yield read
