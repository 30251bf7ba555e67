"""A subset of a store's rows in one bit per row, so that choosing rows of a large store stays cheap."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from emocircuits.errors import UserError
from emocircuits.provenance import sha256_array

BLOCK = 512


class RowSelection:
    """The chosen rows of a store, in ascending order; `selection.take(k)` is the row number of the k-th
    chosen row.

    It holds one bit per row and 8 bytes per 512 rows, where an index array holds 64 bits per chosen row.

    Args:
        masks: boolean arrays over consecutive rows, one block of the store after another.
    """

    def __init__(self, masks: Iterable[Bool[np.ndarray, "_"]]):
        bits, counts, rest, self.n_rows = [], [], np.zeros(0, dtype=bool), 0
        for mask in masks:
            self.n_rows += len(mask)
            rest = np.concatenate([rest, mask]) if len(rest) else mask
            whole = len(rest) - len(rest) % BLOCK
            bits.append(np.packbits(rest[:whole]))
            counts.append(rest[:whole].reshape(-1, BLOCK).sum(axis=1))
            rest = rest[whole:].copy()
        last = np.zeros(BLOCK, dtype=bool)
        last[: len(rest)] = rest
        self._bits = np.concatenate([*bits, np.packbits(last)]).reshape(-1, BLOCK // 8)
        self._before = np.concatenate([[0], np.cumsum(np.concatenate([*counts, [last.sum()]]))]).astype(
            np.int64
        )

    @classmethod
    def of(cls, rows: Int[np.ndarray, "_"], n_rows: int) -> "RowSelection":
        """The selection of these rows of a store with `n_rows`.

        Raises:
            UserError: a row that the store does not have.
        """
        mask = np.zeros(n_rows, dtype=bool)
        if len(rows) and not (rows.min() >= 0 and rows.max() < n_rows):
            raise UserError(
                f"row {int(rows.max())} of a store with {n_rows} rows",
                expected=f"rows from 0 to {n_rows - 1}",
            )
        mask[rows] = True
        return cls([mask])

    @cached_property
    def content_hash(self) -> str:
        """Hash of which rows are chosen."""
        return sha256_array(self._bits)

    def rows(self, step: int = 1) -> Int[np.ndarray, "_"]:
        """Row numbers of the chosen rows, ascending; every `step`-th of them."""
        return self.take(np.arange(0, len(self), step))

    def __len__(self) -> int:
        return int(self._before[-1])

    def take(self, ranks: Int[np.ndarray, "_"]) -> Int[np.ndarray, "_"]:
        """Row numbers of the chosen rows with these ranks (0 is the first chosen row).

        Raises:
            UserError: a rank that is not below `len(self)`.
        """
        if len(ranks) == 0:
            return np.zeros(0, dtype=np.int64)
        if ranks.min() < 0 or ranks.max() >= len(self):
            raise UserError(
                f"rank {int(ranks.max())} of {len(self)} chosen rows", expected=f"0 to {len(self) - 1}"
            )
        block = np.searchsorted(self._before, ranks, side="right") - 1
        blocks, place = np.unique(block, return_inverse=True)
        # chosen rows of these blocks, packed
        inside = np.flatnonzero(np.unpackbits(self._bits[blocks], axis=1).ravel())
        held = self._before[blocks + 1] - self._before[blocks]
        start = np.cumsum(held) - held
        found = inside[start[place] + ranks - self._before[block]]
        return found % BLOCK + block * BLOCK

    def mask(self, first: int, stop: int) -> Bool[np.ndarray, "_"]:
        """Whether each row from `first` up to `stop` is chosen."""
        start = first // BLOCK
        bits = np.unpackbits(self._bits[start : -(-stop // BLOCK)].ravel())
        return bits[first - start * BLOCK : stop - start * BLOCK].astype(bool)

    def __repr__(self) -> str:
        return f"RowSelection({len(self)} of {self.n_rows} rows)"
