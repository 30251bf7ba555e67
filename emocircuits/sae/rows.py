"""Rows of a store as an SAE meets them: which to learn from, which to measure on, mean and spread, none of
them NaN.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.row_filter import RowFilter, filter_rows
from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.errors import UserError
from emocircuits.progress import say
from emocircuits.sae.architectures.card import Blocks
from emocircuits.sae.settings import SAESettings

MASSIVE = 10.0  # times the median norm
MOMENT_ROWS, HELD_OUT_ROWS, CHECKED_ROWS, BLOCK = 1 << 17, 1 << 14, 1 << 14, 2048


def training_rows(store: ActivationStore, settings: SAESettings | None = None) -> RowSelection:
    """Rows of prompts outside the split `held_out` (of all where nothing else is left), without sinks and
    extreme norms.

    Raises:
        UserError: the filter leaves nothing.
    """
    how = settings or SAESettings()
    learn = ~_held_out(store)
    rows, report = filter_rows(
        store,
        RowFilter(how.skip_positions, max_norm_multiple=how.max_norm_multiple or None),
        prompts=learn if learn.any() else np.ones_like(learn),
    )
    if how.max_norm_multiple:
        say(
            f"left out: {report.norm_rows} of {report.n_rows} rows above "
            f"{how.max_norm_multiple:g} × the median norm"
        )
    return rows


def evenly_spaced(rows: Int[np.ndarray, "given"], most: int) -> Int[np.ndarray, "kept"]:
    """At most so many of the rows, from the first on at equal distances."""
    return rows[:: max(1, -(-len(rows) // most))]


def as_selection(rows: Int[np.ndarray, "chosen"] | RowSelection, n_rows: int) -> RowSelection:
    """Rows of a store as a selection, which holds one bit per row."""
    return (
        rows if isinstance(rows, RowSelection) else RowSelection.of(np.asarray(rows, dtype=np.int64), n_rows)
    )


def held_out_rows(
    store: ActivationStore, site: str | None = None, skip_positions: int = 1
) -> Int[np.ndarray, "chosen"]:
    """Rows of the split `held_out`, where there is one; of all prompts otherwise.

    Args:
        store: activations.
        site: leaves out the massive rows of this site (`ordinary_rows`).
        skip_positions: leading positions that are left out.
    """
    held = _held_out(store)
    held = held if held.any() else np.ones_like(held)
    if site is None:
        return store.select(held, start=skip_positions)
    return ordinary_rows(store, site, held, skip_positions)


def ordinary_rows(
    store: ActivationStore, site: str, prompts: Bool[np.ndarray, "prompt"], skip_positions: int = 1
) -> Int[np.ndarray, "chosen"]:
    """Rows of some prompts without massive activations: rows longer than ten times the site's median norm
    (Sun et al. 2024). Many models have a handful of them, and one counts as much in a sum of squares as
    thousands of others.
    """
    kept, _ = filter_rows(
        store, RowFilter(skip_positions, max_norm_multiple=MASSIVE), prompts=prompts, sites=[site]
    )
    return kept.rows()


def held_out_blocks(store: ActivationStore, site: str, rows: RowSelection, skip_positions: int = 1) -> Blocks:
    """Evenly spaced rows of the split `held_out` that are not among `rows`; some of `rows` where there are
    none.

    Args:
        store: activations.
        site: whose rows.
        rows: what the SAE learned from.
        skip_positions: leading positions that are left out.
    """
    held = store.select(_held_out(store), start=skip_positions)
    chosen = held[~rows.mask(0, store.n_rows)[held]]
    chosen = chosen if len(chosen) else rows.rows(max(1, -(-len(rows) // HELD_OUT_ROWS)))
    chosen = chosen[:: max(1, -(-len(chosen) // HELD_OUT_ROWS))]

    def blocks() -> Iterator[Float[Tensor, "block d_in"]]:
        for _, block in store.blocks(site, chosen, size=BLOCK):
            yield torch.from_numpy(block)

    return blocks


def moments(
    store: ActivationStore, site: str, rows: RowSelection
) -> tuple[Float[np.ndarray, "d_model"], float]:
    """Mean and root mean square deviation per coordinate, from evenly spaced rows; float64.

    Raises:
        UserError: a row is not finite, or the rows do not vary.
    """
    sample = rows.rows(max(1, len(rows) // MOMENT_ROWS))
    found = moments_of((block for _, block in store.blocks(site, sample)), site)
    if found is None:
        refuse_bad_rows(store, site, rows)
    return found


def moments_of(
    blocks: Iterable[Float[np.ndarray, "block d_model"]], site: str
) -> tuple[Float[np.ndarray, "d_model"], float] | None:
    """Mean and root mean square deviation per coordinate of rows that come in blocks; None where some are not
    finite.

    Raises:
        UserError: the rows do not vary.
    """
    count, origin, total, square = 0, 0.0, 0.0, 0.0
    for block in blocks:
        wide = block.astype(np.float64)
        origin = wide[0].copy() if count == 0 else origin  # near the mean: shifting by it costs no precision
        wide -= origin
        count, total, square = count + len(wide), total + wide.sum(0), square + (wide * wide).sum(0)
    with np.errstate(invalid="ignore", over="ignore"):
        variance = float((square / count - (total / count) ** 2).mean())
    if not np.isfinite(variance):
        return None
    if not variance > 0:
        raise UserError(f"the activations at {site} do not vary", cure="collect more texts")
    return origin + total / count, float(np.sqrt(variance))


def scaled_batches(
    store: ActivationStore,
    site: str,
    rows: RowSelection,
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


def refuse_bad_rows(store: ActivationStore, site: str, rows: RowSelection) -> None:
    """Finds the first row with NaN or infinity and says where it is.

    Raises:
        UserError: there is one.
    """
    for numbers, block in store.blocks(site, rows):
        bad = ~np.isfinite(block).all(1)
        if bad.any():
            row = int(numbers[bad.argmax()])
            prompt = (
                store.prompts["id"].iloc[store.prompt_index[row]]
                if "id" in store.prompts
                else store.prompt_index[row]
            )
            raise UserError(
                f"row {row} of {store.path.name} at {site} holds NaN or infinity (prompt '{prompt}', "
                f"position {store.positions[row]})",
                expected="finite activations",
                cure="collect again with collect.dtype = 'float32', or leave that prompt out",
            )


def _held_out(store: ActivationStore) -> np.ndarray:
    split = store.prompts["split"].to_numpy() if "split" in store.prompts else np.full(store.n_prompts, "")
    return split == "held_out"


def checked_rows(store: ActivationStore, site: str) -> Float[Tensor, "row d_in"]:
    """Held-out rows of a site, sinks and massive rows left out, that SAEs which were trained elsewhere are
    measured on.
    """
    return torch.from_numpy(store.read(site, evenly_spaced(held_out_rows(store, site), CHECKED_ROWS)))
