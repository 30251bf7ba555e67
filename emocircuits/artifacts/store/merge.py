"""Joins stores of the same model and sites into one, e.g. those that several machines collected."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.errors import UserError
from emocircuits.progress import bar

ROWS_AT_ONCE = 8192


def merge_stores(
    paths: Sequence[str | Path], out: str | Path, *, shard_rows: int | None = None
) -> ActivationStore:
    """Writes one store with the prompts of several, in the order given; a killed merge resumes where it
    stopped.

    Every input is verified against its hashes first; the inputs stay as they are.

    Args:
        paths: finished stores.
        out: where the new store will lie.
        shard_rows: most rows of its shards; None chooses.

    Raises:
        UserError: fewer than two stores, stores of another model, site, width, dtype or table, a prompt id
            that occurs twice, a damaged input, or another store at `out`.
    """
    if len(paths) < 2:
        raise UserError(f"{len(paths)} store to merge", expected="at least two")
    stores = [ActivationStore.open(path) for path in paths]
    for store in stores[1:]:
        _check_same(stores[0], store)
    prompts = pd.concat([store.prompts for store in stores], ignore_index=True)
    twice = prompts["id"].duplicated()
    if twice.any():
        raise UserError(
            f"the prompt '{prompts['id'][twice].iloc[0]}' is in two of the stores",
            expected="every prompt once",
            cure="leave one of them out or collect the prompts under other ids",
        )
    for store in stores:
        store.verify()
    metadata = {
        key: value
        for key, value in stores[0].metadata.items()
        if all(store.metadata.get(key) == value for store in stores)
    }
    metadata["merged"] = [store.content_hash for store in stores]
    tokens = [
        ids for store in stores for ids in np.split(store.tokens, store.prompts["offset"].to_numpy()[1:])
    ]
    writer = ActivationStoreWriter(
        out,
        stores[0].sites,
        stores[0].d_model,
        prompts,
        tokens,
        metadata,
        stores[0].dtype,
        shard_rows=shard_rows,
    )
    with writer, bar(len(prompts), "merge") as shown:
        done, first = writer.done, 0
        for store in stores:
            lengths, offsets = (store.prompts[name].to_numpy() for name in ("n_tokens", "offset"))
            for chosen in _groups(lengths, ~done[first : first + store.n_prompts]):
                spans = zip(offsets[chosen], lengths[chosen], strict=True)
                rows = np.concatenate([np.arange(offset, offset + length) for offset, length in spans])
                writer.append(chosen + first, {site: store.read_raw(site, rows) for site in store.sites})
                shown.update(len(chosen))
            first += store.n_prompts
        writer.finish()
    return ActivationStore.open(out)


def _check_same(one: ActivationStore, other: ActivationStore) -> None:
    for name, ours, theirs in (
        ("model", one.metadata.get("model_hash"), other.metadata.get("model_hash")),
        ("sites", ", ".join(one.sites), ", ".join(other.sites)),
        ("d_model", one.d_model, other.d_model),
        ("dtype", one.dtype, other.dtype),
        ("prompt columns", ", ".join(one.prompts.columns), ", ".join(other.prompts.columns)),
    ):
        if ours != theirs:
            raise UserError(
                f"{other.path} has {name} {theirs}",
                expected=f"{ours} as in {one.path}",
                cure="merge only stores that were collected alike",
            )


def _groups(lengths: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    chosen = np.flatnonzero(wanted)
    if len(chosen) == 0:
        return []
    ends = np.cumsum(lengths[chosen])
    return np.split(chosen, np.flatnonzero(np.diff((ends - 1) // ROWS_AT_ONCE)) + 1)
