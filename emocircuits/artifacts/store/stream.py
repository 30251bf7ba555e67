"""The training stream of a store: shuffled batches in bounded memory.

Every epoch visits each row once: chunks of 256 neighbouring rows are put in a random order, and rows are
shuffled inside windows of `window` rows of that order. Held are one window, in the dtype of the disk, and the
order of the chunks: `window * d_model` values per site and 8 bytes per 256 rows, whatever the store's size.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.artifacts.store.seekable_stream import WINDOW, SeekableStream
from emocircuits.errors import unknown
from emocircuits.numerics import generator

CHUNK = 256


@runtime_checkable
class RowSource(Protocol):
    """What a stream draws from: an `ActivationStore`, or anything with these."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Its sites."""
        ...

    @property
    def d_model(self) -> int:
        """Width of the stream."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    def read_raw(self, site: str, rows: Int[np.ndarray, "chosen"]) -> Shaped[np.ndarray, "chosen d_model"]:
        """Rows as they lie on disk: float32, or bfloat16 bit patterns as uint16."""
        ...


class ActivationStream(SeekableStream):
    """An endless, seekable stream of shuffled batches of a store.

    The order depends on the seed, the number of rows and the window alone, so the same step holds the same
    rows at every site and whatever was drawn before.

    Args:
        source: the rows.
        sites: whose rows; one SAE each.
        batch_size: rows per batch; a batch may cross from one epoch into the next.
        seed: seed of the order.
        rows: only these rows (ascending index array or selection); None means all.
        window: rows that are held and shuffled together.

    Raises:
        UserError: no rows, an unknown site, or a batch size or window below 1.
    """

    def __init__(
        self,
        source: RowSource,
        sites: Sequence[str],
        batch_size: int,
        seed: int,
        *,
        rows: Int[np.ndarray, "chosen"] | RowSelection | None = None,
        window: int = WINDOW,
    ):
        for site in sites:
            if site not in source.sites:
                raise unknown("site", site, source.sites)
        super().__init__(
            sites, source.d_model, source.n_rows if rows is None else len(rows), batch_size, seed, window
        )
        self._source, self._rows = source, rows
        self._order: tuple[int, np.ndarray] | None = None

    def row_numbers(self, step: int) -> Int[np.ndarray, "batch"]:
        """Which rows of the source a step holds, in order."""
        drawn = []
        for epoch, number, begin, end, _ in self._pieces(step):
            rows, places = self._window_rows(epoch, number)
            drawn.append(rows[places[begin:end]])
        return np.concatenate(drawn)

    def _window_at(self, epoch: int, offset: int) -> tuple[int, int, int]:
        number = offset // self.window
        return number, number * self.window, min((number + 1) * self.window, self.n_rows)

    def _load(self, epoch: int, number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows, places = self._window_rows(epoch, number)
        return {site: self._source.read_raw(site, rows) for site in self.sites}, places

    def _window_rows(
        self, epoch: int, number: int
    ) -> tuple[Int[np.ndarray, "held"], Int[np.ndarray, "held"]]:
        """The rows of a window ascending, as they are read, and which of them each draw is."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, generator(self.seed, "chunks", epoch).permutation(-(-self.n_rows // CHUNK))
        order = self._order[1]
        first, last = number * self.window, min((number + 1) * self.window, self.n_rows)
        # all chunks have 256 rows but the store's last one, which may stand anywhere in the order
        short = int(np.flatnonzero(order == len(order) - 1)[0])
        missing = len(order) * CHUNK - self.n_rows
        near = np.arange(max(0, first // CHUNK - 1), min(len(order), last // CHUNK + 2))
        sizes = np.where(near == short, CHUNK - missing, CHUNK)
        start = int(near[0]) * CHUNK - (missing if near[0] > short else 0)
        index = np.concatenate(
            [np.arange(c * CHUNK, c * CHUNK + s) for c, s in zip(order[near], sizes, strict=True)]
        )
        index = index[first - start : last - start]
        ascending = np.argsort(index, kind="stable")
        places = np.empty_like(ascending)
        places[ascending] = np.arange(len(index))
        rows = index[ascending] if self._rows is None else self._rows.take(index[ascending])
        return rows, places[generator(self.seed, "window", epoch, number).permutation(len(index))]
