"""Activations of many prompts at several sites: flat rows in shards that are read by mapping them into
memory.

Layout of the file (kind `activation-store`): `prompts/<column>` is the prompt table,
`rows/{token,position,prompt}` the row table, `activations/<site>` a virtual dataset `(row, d_model)` over the
shards (float32, or bfloat16 bit patterns as uint16). A row is one token of one prompt, prompts lie one after
another and nothing is padded. It is written by `ActivationStoreWriter`; see
`emocircuits.artifacts.store.shards` for the files beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.artifacts.store.seekable_stream import WINDOW
from emocircuits.artifacts.store.shards import (
    DISK_DTYPES,
    STORE,
    VERSION,
    Shard,
    check_contents,
    check_sizes,
    content_hash,
    manifest_path,
    read_manifest,
    shard_directory,
)
from emocircuits.artifacts.store.stream import ActivationStream
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.errors import UserError, unknown
from emocircuits.io import hdf5
from emocircuits.numerics import from_bf16_bits

__all__ = ["ActivationStore", "ActivationStoreWriter"]


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """A finished store, backed by its files: rows and row tables are read when asked for.

    Attributes:
        path: the file.
        sites: hook names, one dataset each.
        d_model: width of a row.
        dtype: `bfloat16` or `float32`, how rows lie on disk; reading always gives float32.
        prompts: one line per prompt, among others `id`, `emotion`, `kind`, `behaviour`, `side`, `split`,
            `n_tokens` and `offset` (its first row).
        tokens, positions, prompt_index: token id, position in the prompt and prompt of every row.
        metadata: plain values; `model_name` and `model_hash` say whose activations these are.
        content_hash: hash of all rows and tables.
        shards: the files that hold the rows.
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
    shards: tuple[Shard, ...] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Opens a finished store.

        Raises:
            UserError: missing, truncated, no activation store, of another version, or unfinished.
        """
        path = Path(path)
        if not path.exists() and manifest_path(path).exists():
            about, shards = read_manifest(path)
            raise UserError(
                f"{path} was not finished ({len(shards)} of {about['n_shards']} shards)",
                cure="run the collect stage again: it resumes where it stopped",
            )
        with hdf5.open_stamped(path, STORE, VERSION) as file:
            if int(file.attrs[hdf5.VERSION]) < VERSION:
                raise UserError(
                    f"{path} has version {file.attrs[hdf5.VERSION]} of '{STORE}'",
                    expected=str(VERSION),
                    cure="run the collect stage again",
                )
            about = hdf5.read_value(file, "about")
            prompts = pd.DataFrame(
                {name: hdf5.read_array(file["prompts"], name) for name in about["columns"]}
            )
            rows = {name: _mapped(path, file["rows"][name]) for name in ("token", "position", "prompt")}
        recorded, shards = read_manifest(path)
        if recorded["plan"] != about["plan"] or content_hash(about["plan"], shards) != about["content_hash"]:
            raise UserError(
                f"{manifest_path(path)} does not belong to {path}",
                expected="the manifest it was finished with",
                cure="copy the file and its shard directory together, or collect again",
            )
        check_sizes(path, shards)
        return cls(
            path=path,
            sites=tuple(about["sites"]),
            d_model=about["d_model"],
            dtype=about["dtype"],
            prompts=prompts,
            tokens=rows["token"],
            positions=rows["position"],
            prompt_index=rows["prompt"],
            metadata=about["metadata"],
            content_hash=about["content_hash"],
            shards=shards,
        )

    @property
    def n_rows(self) -> int:
        """Number of rows (tokens of all prompts)."""
        return len(self.tokens)

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the store."""
        return (
            self.path,
            manifest_path(self.path),
            *(shard_directory(self.path) / shard.file for shard in self.shards),
        )

    def verify(self) -> None:
        """Reads every shard and compares its hash with the manifest's.

        Raises:
            UserError: a shard holds other bytes than were written; the message names it.
        """
        check_contents(self.path, self.shards)

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
        raw = self.read_raw(site, rows)
        return from_bf16_bits(raw) if self.dtype == "bfloat16" else raw

    def read_raw(
        self, site: str, rows: slice | Int[np.ndarray, "chosen"] | Bool[np.ndarray, "row"]
    ) -> Shaped[np.ndarray, "chosen d_model"]:
        """Rows of one site as they lie on disk: float32, or bfloat16 bit patterns as uint16.

        Raises:
            UserError: an unknown site, or a row that the store does not have.
        """
        if site not in self.sites:
            raise unknown("site", site, self.sites)
        if isinstance(rows, slice):
            first, stop, step = rows.indices(self.n_rows)
            if step == 1:
                return self._span(site, first, max(first, stop))
            rows = np.arange(first, stop, step)
        elif rows.dtype == bool:
            if len(rows) != self.n_rows:
                raise UserError(
                    f"a mask over {len(rows)} rows", expected=f"one value for each of the {self.n_rows} rows"
                )
            rows = np.flatnonzero(rows)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.n_rows):
            raise UserError(
                f"rows beyond the end of {self.path.name}", expected=f"rows from 0 to {self.n_rows - 1}"
            )
        if len(self.shards) == 1:
            return np.take(self._map(0, site), rows, axis=0)
        out = np.empty((len(rows), self.d_model), dtype=DISK_DTYPES[self.dtype])
        if (np.diff(rows) < 0).any():
            order = np.argsort(rows, kind="stable")
            out[order] = self.read_raw(site, rows[order])
            return out
        edges = np.append(np.searchsorted(rows, self._starts), len(rows))
        for number in np.flatnonzero(np.diff(edges)):
            here = slice(int(edges[number]), int(edges[number + 1]))
            np.take(
                self._map(int(number), site),
                rows[here] - self._starts[number],
                axis=0,
                out=out[here],
                mode="clip",
            )
        return out

    def blocks(
        self, site: str, rows: Int[np.ndarray, "chosen"] | RowSelection | None = None, *, size: int = WINDOW
    ) -> Iterator[tuple[Int[np.ndarray, "block"], Float[np.ndarray, "block d_model"]]]:
        """All (chosen) rows of a site in order, in blocks of at most `size`: pairs of row numbers and float32
        rows.

        The shards are unmapped at the end, so that one pass after the other does not add up in memory.
        """
        try:
            for first in range(0, self.n_rows if rows is None else len(rows), size):
                if rows is None:
                    stop = min(first + size, self.n_rows)
                    yield np.arange(first, stop), self.read(site, slice(first, stop))
                else:
                    last = min(first + size, len(rows))
                    chosen = (
                        rows.take(np.arange(first, last))
                        if isinstance(rows, RowSelection)
                        else rows[first:last]
                    )
                    yield chosen, self.read(site, chosen)
        finally:
            self.unmap()

    def unmap(self) -> None:
        """Gives back the memory of what was read; the next read maps the shards again."""
        self._files.clear()

    def shuffled_batches(
        self,
        site: str,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        rows: Int[np.ndarray, "chosen"] | RowSelection | None = None,
        window: int = WINDOW,
    ) -> Iterator[Float[np.ndarray, "batch d_model"]]:
        """The batches of one site of an `ActivationStream`, without end.

        Args:
            site: whose rows.
            batch_size: rows per batch; a batch may cross from one epoch into the next.
            seed: seed of the order.
            start_step: the stream starts with this batch, at no cost.
            rows: only these rows (ascending); None means all.
            window: rows that are held and shuffled together.
        """
        stream = ActivationStream(self, (site,), batch_size, seed, rows=rows, window=window)
        for batch in stream.batches(start_step):
            yield batch[site]

    def _span(self, site: str, first: int, stop: int) -> np.ndarray:
        out = np.empty((stop - first, self.d_model), dtype=DISK_DTYPES[self.dtype])
        number = int(np.searchsorted(self._starts, first, side="right")) - 1
        row = first
        while row < stop:
            shard = self.shards[number]
            end = min(stop, shard.first_row + shard.n_rows)
            out[row - first : end - first] = self._map(number, site)[
                row - shard.first_row : end - shard.first_row
            ]
            row, number = end, number + 1
        return out

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.array([shard.first_row for shard in self.shards])

    @cached_property
    def _files(self) -> dict[int, np.ndarray]:
        return {}

    def _map(self, number: int, site: str) -> np.ndarray:
        shard = self.shards[number]
        held = self._files.get(number)  # another thread may forget it at any moment (`blocks`)
        if held is None:
            held = self._files[number] = np.memmap(shard_directory(self.path) / shard.file, np.uint8, "r")
        return np.ndarray((shard.n_rows, self.d_model), DISK_DTYPES[self.dtype], held, shard.offsets[site])

    def __repr__(self) -> str:
        return (
            f"ActivationStore({self.n_prompts} prompts, {self.n_rows} rows × {len(self.sites)} sites × "
            f"d_model {self.d_model}, {self.dtype}, {len(self.shards)} shards, "
            f"{self.metadata.get('model_name', 'unknown model')})"
        )


def _mapped(path: Path, column: h5py.Dataset) -> np.ndarray:
    """A contiguous column as an array backed by the file, so that a long table costs no memory."""
    return np.asarray(np.memmap(path, column.dtype, "r", column.id.get_offset(), column.shape))
