"""Residual streams of labelled texts at every block, in one forward pass per batch.

Texts of the same tokens have the same rows: the first goes through the model, the others take its rows (many
of the organism's stories fit several emotions, so that two texts of five are twins of another).

Texts of similar length go through the model together, padded on the right: in a causal model nothing that
comes later reaches an earlier position, so a text's rows do not depend on its batch (tested: one at a time
and eight at a time agree). Every position is stored, with its number. Position 0 is an attention sink with a
norm of its own: readers of the store leave it out with `positions > 0`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.activations.prompts import LabelledText, label_table
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.errors import UserError
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.replicas import replicas
from emocircuits.names import layer_of, sites_of
from emocircuits.passes.attention import fused, fuses
from emocircuits.passes.hooks import recorded
from emocircuits.progress import bar
from emocircuits.ranks import barrier, ranks
from emocircuits.threads import side_by_side


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


def collect(
    model: LanguageModel,
    texts: Sequence[LabelledText],
    path: str | Path,
    *,
    layers: Sequence[int | str] | None = None,
    dtype: str = "bfloat16",
    replace: bool = False,
    settings: StoreSettings | None = None,
) -> ActivationStore:
    """Collects residual streams: the activations of all texts go to a store; a killed run resumes at the
    shard it was in.

    The ranks of a job (`emocircuits.ranks`) share the shards and fill one store, with the same bytes as
    one process.

    Args:
        model: the model.
        texts: texts with labels.
        path: the store's file.
        layers: numbers of layers, or their `hook_resid_post` sites; all by default.
        dtype: float32 or bfloat16 in the file.
        replace: delete a store of other texts, sites or another model that lies at `path`.
        settings: sizes of batches and shards, and further metadata.

    Raises:
        UserError: an unknown site, a text that is empty or longer than the model's context, an id that occurs
            twice, or another store at `path`.
    """
    sites = sites_of(layers, model.sites)
    table = label_table(texts)
    tokens = encode_texts(model, texts)
    settings = settings or StoreSettings()
    about = {
        **settings.metadata,
        "model_name": model.name,
        "model_hash": model.content_hash,
        "n_layers": model.n_layers,
    }
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
        mine = [np.arange(shard.start, shard.stop) for shard in ranks().shard(left)]

        def batches(texts: Int[np.ndarray, "_"]) -> list[Int[np.ndarray, "_"]]:
            # those of the whole shard: rounding depends on the shape of a batch
            return [texts[batch] for batch in length_batches(lengths[texts], settings.batch_tokens)]

        first = [batches(texts[twin_of[texts] == texts]) for texts in mine]
        twins = [batches(texts[twin_of[texts] != texts]) for texts in mine]
        with (
            row_readers(model, sites, dtype) as readers,
            bar(int(sum(lengths[texts].sum() for texts in mine)), "collect") as shown,
        ):

            def fill(batches: list, rows: Iterable[dict[str, np.ndarray]]) -> None:
                for batch, of_batch in zip(batches, rows, strict=False):
                    writer.append(batch, of_batch)
                    shown.update(int(lengths[batch].sum()))

            texts_of = ([tokens[text] for text in batch] for batch in chain(*first))
            computed = side_by_side(lambda read, texts: read(texts), texts_of, readers)
            for turn in range(-(-len(left) // ranks().size)):
                if turn < len(mine):
                    fill(first[turn], computed)
                for rank in range(ranks().size):  # a twin's rows may lie in an earlier rank's shard
                    if rank == ranks().rank and turn < len(mine):
                        fill(twins[turn], (writer.written(twin_of[batch]) for batch in twins[turn]))
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
def row_readers(
    model: LanguageModel, sites: Sequence[str], dtype: str = "float32"
) -> Iterator[list[Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]]]:
    """A `row_reader` for each thread, of a replica of the model each."""
    with ExitStack() as stack:
        models = [dataclasses.replace(model, bridge=bridge) for bridge in replicas(model.bridge)]
        yield [stack.enter_context(row_reader(one, sites, dtype)) for one in models]


@contextmanager
def row_reader(
    model: LanguageModel, sites: Sequence[str], dtype: str = "float32"
) -> Iterator[Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]]:
    """A function from the token ids of several texts to their residual streams, by one forward pass.

    It gives per site `(row, d_model)`: the rows of one text after another, without padding. The hooks stand
    for as long as the context does, because setting them costs as much as a small forward pass. Attention
    makes no patterns where that gives the same.

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

    with (
        fused(model.bridge) if fuses(model.bridge) else nullcontext(),
        recorded(model.bridge, (), optional=sites, keep=rows_of) as held,
    ):
        yield read
