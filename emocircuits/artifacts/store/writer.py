"""Writes an activation store shard by shard: a killed run resumes at the shard it was in and ends with the
same bytes.

See `emocircuits.artifacts.store.shards` for the layout.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from emocircuits.artifacts.store.input import as_on_disk, prompt_table
from emocircuits.artifacts.store.shards import (
    DISK_DTYPES,
    Shard,
    content_hash,
    default_shard_rows,
    lay_out_shard,
    read_at,
    read_manifest,
    reusable,
    shard_directory,
    split_prompts,
    write_at,
    write_index,
    write_manifest,
)
from emocircuits.errors import UserError
from emocircuits.io.atomic import write_failure
from emocircuits.provenance import sha256_array, sha256_file, sha256_json
from emocircuits.ranks import barrier, ranks


class ActivationStoreWriter:
    """Fills a store prompt by prompt. Every row has its place from the start, so prompts may come in any
    order.

    A shard is laid out when its first prompt comes and finished with its last: synced to disk, hashed,
    renamed, and only then recorded in the manifest. A writer with the same plan (sites, prompts, tokens,
    metadata, dtype, shard size) resumes from the finished shards; rows of an unfinished shard are lost and
    asked for again. `finish` writes the store's own file.

    Args:
        path: where the finished store will lie; the shards lie beside it.
        sites: hook names.
        d_model: width of a row.
        prompts: one line per prompt with at least a unique `id`; missing text becomes "".
        tokens: the token ids of each prompt.
        metadata: plain values, `model_name` and `model_hash` among them.
        dtype: `bfloat16` or `float32` on disk.
        shard_rows: most rows of a shard (a longer prompt has a shard of its own); None chooses 65,536, fewer
            where that would pass 1 GiB.
        replace: delete a store of another plan that lies at `path`.
        joint: all ranks of a job (`emocircuits.ranks`) fill this store together, each with shards of its
            own; `finish` waits for all of them.

    Raises:
        UserError: float16 or another dtype, ids not unique, tokens that do not fit the prompts, a second
            writer, or a store of another plan at `path` without `replace`.
        Failure: the disk is full or not writable.
    """

    def __init__(
        self,
        path: str | Path,
        sites: Sequence[str],
        d_model: int,
        prompts: pd.DataFrame,
        tokens: Sequence[np.ndarray],
        metadata: dict[str, Any],
        dtype: str = "bfloat16",
        *,
        shard_rows: int | None = None,
        replace: bool = False,
        joint: bool = False,
    ):
        if dtype not in ("bfloat16", "float32"):
            cure = "float16 overflows at 65504" if dtype == "float16" else None
            raise UserError(
                f"an activation store cannot hold dtype '{dtype}'", expected="bfloat16 or float32", cure=cure
            )
        if not sites or d_model < 1 or (shard_rows is not None and shard_rows < 1):
            raise UserError(
                f"a store of {len(sites)} sites, d_model {d_model} and shard_rows {shard_rows}",
                expected="at least one of each",
            )
        self.path, self.sites, self.d_model, self.dtype = Path(path), tuple(sites), d_model, dtype
        self._prompts = prompt_table(prompts, tokens)
        self._lengths = self._prompts["n_tokens"].to_numpy()
        self._offsets = self._prompts["offset"].to_numpy()
        self._rows = {
            "token": np.concatenate(tokens).astype(np.int32),
            "position": np.concatenate([np.arange(n) for n in self._lengths]).astype(np.int32),
            "prompt": np.repeat(np.arange(len(tokens)), self._lengths).astype(np.int32),
        }
        shard_rows = default_shard_rows(len(self.sites), d_model, dtype) if shard_rows is None else shard_rows
        self._edges = split_prompts(self._lengths, shard_rows)
        self._about = {
            "sites": list(self.sites),
            "d_model": d_model,
            "dtype": dtype,
            "metadata": metadata,
            "columns": list(self._prompts.columns),
        }
        self._plan = sha256_json(
            [
                self._about,
                shard_rows,
                self._prompts.to_json(orient="split", double_precision=15),
                [sha256_array(column) for column in self._rows.values()],
            ]
        )
        self._head = {
            "plan": self._plan,
            "model_name": metadata.get("model_name"),
            "model_hash": metadata.get("model_hash"),
            "sites": list(self.sites),
            "d_model": d_model,
            "dtype": dtype,
            "n_prompts": len(self._lengths),
            "n_rows": int(self._lengths.sum()),
            "n_shards": len(self._edges) - 1,
        }
        self._finished: dict[int, Shard] = {}
        self._open: dict[int, tuple[int, dict[str, int]]] = {}
        self._written = np.zeros(len(tokens), dtype=bool)
        self._lock, self._replace, self._joint = -1, replace, joint and not ranks().alone
        try:
            self._start()
        except OSError as error:
            self.close()
            raise write_failure(self.path, error) from error
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> Bool[np.ndarray, "prompt"]:
        """Which prompts need not be computed (again)."""
        return self._written.copy()

    @property
    def shards(self) -> list[range]:
        """The prompts of every shard. Appending them shard by shard loses at most one shard to a kill."""
        return [
            range(int(first), int(last))
            for first, last in zip(self._edges[:-1], self._edges[1:], strict=True)
        ]

    def append(self, prompt_indices: Sequence | np.ndarray, activations: Mapping[str, np.ndarray]) -> None:
        """Writes all rows of some prompts at all sites.

        Args:
            prompt_indices: positions in the prompt table.
            activations: per site `(row, d_model)`, the prompts' rows one prompt after another in the order of
                `prompt_indices`; float32, or uint16 bfloat16 bit patterns for a bfloat16 store.

        Raises:
            UserError: a missing or unknown site, a wrong shape, float16, NaN or infinity, a prompt whose
                shard is finished; nothing is written then.
            Failure: the disk is full; finished shards are kept.
        """
        chosen = np.asarray(prompt_indices, dtype=np.int64)
        if len(chosen) == 0:
            return
        if chosen.min() < 0 or chosen.max() >= len(self._lengths):
            raise UserError(
                f"prompt number {chosen.max() if chosen.min() >= 0 else chosen.min()}",
                expected=f"0 to {len(self._lengths) - 1}",
            )
        numbers = np.searchsorted(self._edges, chosen, side="right") - 1
        finished = np.isin(numbers, list(self._finished))
        if finished.any():
            name = self._prompts["id"].iloc[int(chosen[finished][0])]
            raise UserError(
                f"prompt '{name}' is in a finished shard of {self.path}",
                expected="prompts that are not done",
                cure="skip the prompts of `done`",
            )
        strange = sorted(set(activations) ^ set(self.sites))
        if strange:
            what = "activations of" if strange[0] in activations else "no activations for"
            raise UserError(
                f"{what} the site '{strange[0]}'",
                expected=f"the sites of {self.path}: {', '.join(self.sites)}",
            )
        shape = int(self._lengths[chosen].sum()), self.d_model
        encoded = {site: as_on_disk(activations[site], site, shape, self.dtype) for site in self.sites}
        starts = np.concatenate([[0], np.cumsum(self._lengths[chosen])])
        breaks = np.flatnonzero((np.diff(chosen) != 1) | (np.diff(numbers) != 0)) + 1
        try:
            for first, last in zip([0, *breaks], [*breaks, len(chosen)], strict=True):
                fd, offsets = self._opened(int(numbers[first]))
                row = int(self._offsets[chosen[first]] - self._offsets[self._edges[numbers[first]]])
                for site, block in encoded.items():
                    place = offsets[site] + row * self.d_model * block.itemsize
                    write_at(fd, block[starts[first] : starts[last]], place)
            self._written[chosen] = True
            for number in np.unique(numbers):
                if self._written[self._edges[number] : self._edges[number + 1]].all():
                    self._finish_shard(int(number))
        except OSError as error:
            raise write_failure(self.path, error) from error

    def written(self, prompt_indices: Sequence | np.ndarray) -> dict[str, Shaped[np.ndarray, "row d_model"]]:
        """Rows of appended prompts, one prompt after another, as they lie on disk; those of another rank once
        their shard is finished.

        Raises:
            UserError: a prompt whose rows are not there.
        """
        chosen = np.asarray(prompt_indices, dtype=np.int64)
        numbers = np.searchsorted(self._edges, chosen, side="right") - 1
        if self._joint and not self._written[chosen].all():
            self._read_finished()
        if not self._written[chosen].all():
            name = self._prompts["id"].iloc[int(chosen[~self._written[chosen]][0])]
            raise UserError(f"prompt '{name}' has no rows in {self.path} yet", cure="append it first")
        ends = np.cumsum(self._lengths[chosen])
        kind = np.dtype(DISK_DTYPES[self.dtype])
        rows = {
            site: np.empty((self._lengths[chosen].sum(), self.d_model), dtype=kind) for site in self.sites
        }
        for number in np.unique(numbers):
            with self._reading(int(number)) as (fd, offsets):
                for place in np.flatnonzero(numbers == number):
                    row = int(self._offsets[chosen[place]] - self._offsets[self._edges[number]])
                    span = slice(int(ends[place] - self._lengths[chosen[place]]), int(ends[place]))
                    for site, block in rows.items():
                        read_at(fd, block[span], offsets[site] + row * self.d_model * kind.itemsize)
        return rows

    def finish(self) -> None:
        """Writes the store's own file over the finished shards.

        Raises:
            UserError: some prompts were not appended.
        """
        if self._joint:
            barrier()
            if not ranks().first:
                barrier()  # after the first rank's last step
                self.close()
                return
            self._read_finished()
        if not self._written.all():
            missing = np.flatnonzero(~self._written)
            raise UserError(
                f"{len(missing)} of {len(self._written)} prompts have no activations (first: {missing[0]})",
                cure="append them before finishing",
            )
        shards = self._recorded()
        about = {**self._about, "plan": self._plan, "content_hash": content_hash(self._plan, shards)}
        prompts = {str(name): column.to_numpy() for name, column in self._prompts.items()}
        write_index(self.path, about, prompts, self._rows, shards)
        self.close()
        if self._joint:
            barrier()

    def close(self) -> None:
        """Lets go of the files; finished shards stay for the next writer."""
        for number, (fd, _) in self._open.items():
            os.close(fd)
            self._part(number).unlink(missing_ok=True)
        self._open.clear()
        if self._lock >= 0:
            os.close(self._lock)
            with suppress(OSError):  # not empty as a rule
                shard_directory(self.path).rmdir()
        self._lock = -1

    def __enter__(self) -> "ActivationStoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        folder = shard_directory(self.path)
        if self._joint and not ranks().first:
            barrier()  # the first rank holds the lock and has cleaned up
            self._lock = os.open(folder, os.O_RDONLY)
            self._read_finished()
            return
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise UserError(
                f"another process is writing {self.path}",
                expected="one writer at a time",
                cure="wait for it or choose another --out",
            ) from error
        self._lock = handle
        self._take(reusable(self.path, self._head, self._replace))
        kept = {shard.file for shard in self._finished.values()}
        if len(self._finished) < len(self._edges) - 1:
            self.path.unlink(missing_ok=True)
        for pattern in ("[0-9]*.h5", "[0-9]*.h5.part", ".manifest.json.*.tmp"):
            for left in folder.glob(pattern):
                if left.name not in kept:
                    left.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            left.unlink(missing_ok=True)
        write_manifest(self.path, self._head, self._recorded())
        if self._joint:
            barrier()

    def _take(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            self._finished[int(np.searchsorted(self._edges, shard.first_prompt))] = shard
            self._written[shard.first_prompt : shard.first_prompt + shard.n_prompts] = True

    def _read_finished(self) -> None:
        """Takes over what the manifest says is finished, by whatever rank."""
        self._take(read_manifest(self.path)[1])

    def _recorded(self) -> list[Shard]:
        return [self._finished[number] for number in sorted(self._finished)]

    def _part(self, number: int) -> Path:
        return shard_directory(self.path) / f"{number:05d}.h5.part"

    def _opened(self, number: int) -> tuple[int, dict[str, int]]:
        if number not in self._open:
            first, last = self._edges[number : number + 2]
            n_rows = int(self._lengths[first:last].sum())
            attributes = {
                "plan": self._plan,
                "first_row": int(self._offsets[first]),
                "n_rows": n_rows,
                "model_name": str(self._head["model_name"]),
                "model_hash": str(self._head["model_hash"]),
            }
            offsets = lay_out_shard(
                self._part(number), self.sites, n_rows, self.d_model, self.dtype, attributes
            )
            self._open[number] = os.open(self._part(number), os.O_RDWR), offsets
        return self._open[number]

    @contextmanager
    def _reading(self, number: int) -> Iterator[tuple[int, dict[str, int]]]:
        """A shard's file, being written or finished, and where each site's rows start in it."""
        if number in self._open:
            yield self._open[number]
            return
        shard = self._finished[number]
        fd = os.open(shard_directory(self.path) / shard.file, os.O_RDONLY)
        try:
            yield fd, shard.offsets
        finally:
            os.close(fd)

    def _finish_shard(self, number: int) -> None:
        fd, offsets = self._open[number]
        part, final = self._part(number), shard_directory(self.path) / f"{number:05d}.h5"
        os.fsync(fd)
        first, last = (int(edge) for edge in self._edges[number : number + 2])
        shard = Shard(
            file=final.name,
            first_prompt=first,
            n_prompts=last - first,
            first_row=int(self._offsets[first]),
            n_rows=int(self._lengths[first:last].sum()),
            n_bytes=os.fstat(fd).st_size,
            offsets=offsets,
            sha256=sha256_file(part),
        )
        os.replace(part, final)
        os.fsync(self._lock)  # the directory: the new name is on disk before the manifest speaks of it
        self._finished[number] = shard
        self._record()
        del self._open[number]
        os.close(fd)

    def _record(self) -> None:
        if not self._joint:
            write_manifest(self.path, self._head, self._recorded())
            return
        turn = os.open(self.path.parent, os.O_RDONLY)
        try:
            # one rank at a time; it lets go when closed, or when the rank is killed
            fcntl.flock(turn, fcntl.LOCK_EX)
            self._read_finished()
            write_manifest(self.path, self._head, self._recorded())
        finally:
            os.close(turn)
