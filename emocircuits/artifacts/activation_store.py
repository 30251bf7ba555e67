"""Activations of many prompts at several sites: one HDF5 file of flat rows that is read by mapping it into memory.

Layout of the file (kind `activation-store`): `activations/<site>` is a preallocated contiguous dataset `(row, d_model)`,
float32 or bfloat16 bit patterns; `prompts/<column>` is the prompt table; `rows/{token,position,prompt}` the row table.
A row is one token of one prompt, prompts lie one after another and nothing is padded.
It is written by `ActivationStoreWriter`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from emocircuits.artifacts.activation_writer import KIND, UNFINISHED, VERSION, ActivationStoreWriter
from emocircuits.errors import UserError, unknown
from emocircuits.io import hdf5
from emocircuits.numerics import from_bf16_bits, generator

CHUNK, WINDOW = 256, 32_768
__all__ = ["ActivationStore", "ActivationStoreWriter"]


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """A finished store, backed by its file: rows are read when asked for.

    Attributes:
        path: the file.
        sites: hook names, one dataset each.
        d_model: width of a row.
        dtype: `bfloat16` or `float32`, how rows lie on disk; reading always gives float32.
        prompts: one line per prompt, among others `id`, `emotion`, `kind`, `split`, `n_tokens` and `offset` (its first row).
        tokens, positions, prompt_index: token id, position in the prompt and prompt of every row.
        metadata: plain values; `model_name` and `model_hash` say whose activations these are.
        content_hash: hash of all rows and tables.
    """

    path: Path
    sites: tuple[str, ...]
    d_model: int
    dtype: str
    prompts: pd.DataFrame
    tokens: Int[np.ndarray, "row"]
    positions: Int[np.ndarray, "row"]
    prompt_index: Int[np.ndarray, "row"]
    metadata: dict[str, Any]
    content_hash: str
    offsets: dict[str, int] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Opens a finished store.

        Raises:
            UserError: missing, truncated, no activation store, of a newer version, or unfinished.
        """
        with hdf5.open_stamped(path, KIND, VERSION) as file:
            about = hdf5.read_json(file, "about")
            content_hash = bytes(hdf5.read_array(file, "content_hash"))
            if content_hash == UNFINISHED:
                raise UserError(f"{path} was not finished", cure="run the collect stage again: it goes on where it stopped")
            prompts = pd.DataFrame({name: hdf5.read_array(file["prompts"], name) for name in about["columns"]})
            rows = {name: hdf5.read_array(file["rows"], name) for name in ("token", "position", "prompt")}
            offsets = {site: file["activations"][site].id.get_offset() for site in about["sites"]}
            return cls(
                path=Path(path),
                sites=tuple(about["sites"]),
                d_model=about["d_model"],
                dtype=about["dtype"],
                prompts=prompts,
                tokens=rows["token"],
                positions=rows["position"],
                prompt_index=rows["prompt"],
                metadata=about["metadata"],
                content_hash=content_hash.decode(),
                offsets=offsets,
            )

    @property
    def n_rows(self) -> int:
        """Number of rows (tokens of all prompts)."""
        return len(self.tokens)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    def select(self, prompts: Bool[np.ndarray, "prompt"], *, start: int = 0) -> Int[np.ndarray, "chosen"]:
        """Rows of the chosen prompts from position `start` on, ascending."""
        return np.flatnonzero(np.asarray(prompts, dtype=bool)[self.prompt_index] & (self.positions >= start))

    def read(
        self, site: str, rows: slice | Int[np.ndarray, "chosen"] | Bool[np.ndarray, "row"]
    ) -> Float[np.ndarray, "chosen d_model"]:
        """Rows of one site as float32; `rows` is a slice, an index array or a mask over all rows.

        Raises:
            UserError: an unknown site, or a row that the store does not have.
        """
        if site not in self.sites:
            raise unknown("site", site, self.sites)
        try:
            raw = self._maps[site][rows]
        except IndexError as error:
            raise UserError(f"rows beyond the end of {self.path.name}", expected=f"rows below {self.n_rows}") from error
        return from_bf16_bits(raw) if self.dtype == "bfloat16" else np.array(raw)

    def blocks(
        self, site: str, rows: Int[np.ndarray, "chosen"] | None = None, *, size: int = WINDOW
    ) -> Iterator[tuple[Int[np.ndarray, "block"], Float[np.ndarray, "block d_model"]]]:
        """All (chosen) rows of a site in order, in blocks of at most `size`: pairs of row numbers and float32 rows."""
        for first in range(0, self.n_rows if rows is None else len(rows), size):
            if rows is None:
                stop = min(first + size, self.n_rows)
                yield np.arange(first, stop), self.read(site, slice(first, stop))
            else:
                chosen = rows[first : first + size]
                yield chosen, self.read(site, chosen)

    def shuffled_batches(
        self,
        site: str,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        rows: Int[np.ndarray, "chosen"] | None = None,
        window: int = WINDOW,
    ) -> Iterator[Float[np.ndarray, "batch d_model"]]:
        """An endless stream of shuffled batches in bounded memory; batch `step` is a pure function of (seed, step).

        Every epoch visits each row once: chunks of 256 neighbouring rows are put in a random order, and rows are shuffled
        inside windows of `window` rows of that order. Only one window is held. The same seed gives the same rows at
        every site.

        Args:
            site: whose rows.
            batch_size: rows per batch; a batch may cross from one epoch into the next.
            seed: seed of the order.
            start_step: the stream starts with this batch, at no cost.
            rows: only these rows (ascending); None means all.
            window: rows that are held and shuffled together.
        """
        n_rows = self.n_rows if rows is None else len(rows)
        if n_rows == 0:
            raise UserError(f"no rows to draw from at {site}", cure="collect more prompts or widen the row filter")
        held_key, held = None, np.empty((0, self.d_model), dtype=np.float32)
        step = start_step
        while True:
            first, pieces = step * batch_size, []
            while first < (step + 1) * batch_size:
                epoch, offset = divmod(first, n_rows)
                number = offset // window
                if held_key != (epoch, number):
                    held_key, held = (epoch, number), self._window(site, rows, n_rows, window, seed, epoch, number)
                begin = offset - number * window
                piece = held[begin : begin + (step + 1) * batch_size - first]
                pieces.append(piece)
                first += len(piece)
            yield pieces[0].copy() if len(pieces) == 1 else np.concatenate(pieces)
            step += 1

    def _window(
        self, site: str, rows: np.ndarray | None, n_rows: int, window: int, seed: int, epoch: int, number: int
    ) -> np.ndarray:
        order = generator(seed, "chunks", epoch).permutation(-(-n_rows // CHUNK))
        sizes = np.minimum(CHUNK, n_rows - order * CHUNK)
        ends = np.cumsum(sizes)
        first, last = number * window, min((number + 1) * window, n_rows)
        near = slice(np.searchsorted(ends, first, side="right"), np.searchsorted(ends, last, side="left") + 1)
        start = ends[near][0] - sizes[near][0]
        index = np.concatenate([np.arange(c * CHUNK, c * CHUNK + s) for c, s in zip(order[near], sizes[near], strict=True)])
        index = index[first - start : last - start]
        index = index[generator(seed, "window", epoch, number).permutation(len(index))]
        ascending = np.argsort(index)
        drawn = np.empty((len(index), self.d_model), dtype=np.float32)
        drawn[ascending] = self.read(site, index[ascending] if rows is None else rows[index[ascending]])
        return drawn

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        kind = "<u2" if self.dtype == "bfloat16" else "<f4"
        shape = (self.n_rows, self.d_model)
        return {site: np.memmap(self.path, kind, "r", self.offsets[site], shape) for site in self.sites}

    def __repr__(self) -> str:
        return (
            f"ActivationStore({self.n_prompts} prompts, {self.n_rows} rows × {len(self.sites)} sites × "
            f"d_model {self.d_model}, {self.dtype}, {self.metadata.get('model_name', 'unknown model')})"
        )
