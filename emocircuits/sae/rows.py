"""Rows of a store as an SAE meets them: which to learn from, which to measure on, mean and spread, none of them NaN."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.sae.architecture import Blocks

MOMENT_ROWS, HELD_OUT_ROWS, BLOCK = 1 << 17, 1 << 14, 2048


def training_rows(store: ActivationStore, skip_positions: int = 1) -> Int[np.ndarray, "chosen"]:
    """Rows of prompts outside the split `held_out` (of all where nothing else is left), without the first positions."""
    learn = ~_held_out(store)
    return store.select(learn if learn.any() else np.ones_like(learn), start=skip_positions)


def held_out_blocks(store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"], skip_positions: int = 1) -> Blocks:
    """Evenly spaced rows of the split `held_out` that are not among `rows`; some of `rows` where there are none.

    Args:
        store: activations.
        site: whose rows.
        rows: what the SAE learned from.
        skip_positions: leading positions that are left out.
    """
    chosen = np.setdiff1d(store.select(_held_out(store), start=skip_positions), rows, assume_unique=True)
    chosen = chosen if len(chosen) else np.sort(rows)
    chosen = chosen[:: max(1, -(-len(chosen) // HELD_OUT_ROWS))]

    def blocks() -> Iterator[Float[Tensor, "block d_in"]]:
        for _, block in store.blocks(site, chosen, size=BLOCK):
            yield torch.from_numpy(block)

    return blocks


def moments(
    store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"]
) -> tuple[Float[np.ndarray, "d_model"], float]:
    """Mean and root mean square deviation per coordinate, from evenly spaced rows; float64.

    Raises:
        UserError: a row is not finite, or the rows do not vary.
    """
    sample = rows[:: max(1, len(rows) // MOMENT_ROWS)]
    count, total, square = 0, np.zeros(store.d_model), np.zeros(store.d_model)
    origin = store.read(site, sample[:1])[0].astype(np.float64)
    for _, block in store.blocks(site, sample):
        shifted = block.astype(np.float64) - origin
        count, total, square = count + len(block), total + shifted.sum(0), square + (shifted * shifted).sum(0)
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not finite are named below
        variance = float((square / count - (total / count) ** 2).mean())
    if not np.isfinite(variance):
        refuse_bad_rows(store, site, rows)
    if not variance > 0:
        raise UserError(f"the activations at {site} do not vary", cure="collect more texts")
    return origin + total / count, float(np.sqrt(variance))


def scaled_batches(
    store: ActivationStore,
    site: str,
    rows: Int[np.ndarray, "chosen"],
    batch_size: int,
    seed: int,
    scale: float,
    *,
    start_step: int = 0,
) -> Iterator[Float[Tensor, "batch d_in"]]:
    """The shuffled stream of a store times `scale`, from batch `start_step` on.

    Raises:
        UserError: a batch holds a row that is not finite.
    """
    for batch in store.shuffled_batches(site, batch_size, seed, rows=rows, start_step=start_step):
        x = torch.from_numpy(batch).mul_(scale)
        # the sum is one pass and not finite if a row is not
        if not bool(torch.isfinite(x.sum())) and not bool(torch.isfinite(x).all()):
            refuse_bad_rows(store, site, rows)
        yield x


def refuse_bad_rows(store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"]) -> None:
    """Finds the first row with NaN or infinity and says where it is.

    Raises:
        UserError: there is one.
    """
    for numbers, block in store.blocks(site, rows):
        bad = ~np.isfinite(block).all(1)
        if bad.any():
            row = int(numbers[bad.argmax()])
            prompt = store.prompts["id"].iloc[store.prompt_index[row]] if "id" in store.prompts else store.prompt_index[row]
            raise UserError(
                f"row {row} of {store.path.name} at {site} holds NaN or infinity (prompt '{prompt}', position "
                f"{store.positions[row]})",
                expected="finite activations",
                cure="collect again with collect.dtype = 'float32', or leave that prompt out",
            )


def _held_out(store: ActivationStore) -> np.ndarray:
    split = store.prompts["split"].to_numpy() if "split" in store.prompts else np.full(store.n_prompts, "")
    return split == "held_out"
