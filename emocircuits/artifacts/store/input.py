"""What goes into an activation store, checked and brought into the form it has on disk."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emocircuits.errors import UserError
from emocircuits.numerics import bf16_bits

INFINITE_BITS = 0x7F80


def prompt_table(prompts: pd.DataFrame, tokens: Sequence[np.ndarray]) -> pd.DataFrame:
    """The prompt table of a store: text columns as text, missing text as "", `n_tokens` and `offset` added.

    Raises:
        UserError: ids missing or not unique, tokens that do not fit the prompts, a prompt without tokens.
    """
    if "id" not in prompts or prompts["id"].duplicated().any():
        raise UserError(
            "the prompt table has no column 'id' or an id occurs twice", expected="one unique id per prompt"
        )
    if len(tokens) != len(prompts) or len(prompts) == 0:
        raise UserError(
            f"token ids of {len(tokens)} prompts for {len(prompts)} prompts",
            expected="one array per prompt, at least one",
        )
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    if (lengths == 0).any():
        raise UserError(f"prompt '{prompts['id'].iloc[int(np.argmin(lengths))]}' has no tokens")
    table = prompts.reset_index(drop=True).drop(columns=["n_tokens", "offset"], errors="ignore")
    for name, column in table.items():
        if column.dtype.kind not in "biuf":
            table[name] = column.where(column.notna(), "").astype(str).astype(object)
    return table.assign(n_tokens=lengths, offset=np.cumsum(lengths) - lengths)


def as_on_disk(activations: np.ndarray, site: str, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """Rows of one site in the dtype of the store: float32, or bfloat16 bit patterns as uint16.

    Args:
        activations: float32 (or anything that casts to it), or bit patterns for a bfloat16 store.
        site: hook name, for messages.
        shape: (row, d_model) they must have.
        dtype: `bfloat16` or `float32`.

    Raises:
        UserError: another shape, float16, bit patterns for a float32 store, NaN or infinity.
    """
    block = np.asarray(activations)
    if block.shape != shape:
        raise UserError(
            f"activations at {site} have shape {block.shape}", expected=f"(row, d_model) = {shape}"
        )
    if block.dtype == np.float16:
        raise UserError(
            f"float16 activations at {site}",
            expected="float32 or bfloat16",
            cure="float16 overflows at 65504",
        )
    if dtype == "bfloat16":
        block = block if block.dtype == np.uint16 else bf16_bits(block.astype(np.float32, copy=False))
        magnitude = block & np.uint16(0x7FFF)
        bad = None if magnitude.max() < INFINITE_BITS else magnitude >= INFINITE_BITS
    else:
        if block.dtype == np.uint16:
            raise UserError(f"bit patterns at {site}", expected="float32 values for a float32 store")
        block = block.astype(np.float32, copy=False)
        finite = np.isfinite(block)
        bad = None if finite.all() else ~finite
    if bad is not None:
        raise UserError(
            f"{int(bad.any(axis=1).sum())} of {shape[0]} activation rows at {site} hold NaN or infinity",
            expected="finite values",
            cure="check the model's weights and its precision",
        )
    return np.ascontiguousarray(block)
