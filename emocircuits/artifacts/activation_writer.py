"""Writes an activation store in committed steps: a killed run goes on where it stopped and ends with the same bytes.

Values are little endian on disk whatever the machine; see `emocircuits.artifacts.activation_store` for the layout.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Bool

from emocircuits.errors import UserError
from emocircuits.io import hdf5
from emocircuits.io.atomic import atomic_path, write_failure
from emocircuits.io.documents import read_json, write_json
from emocircuits.numerics import bf16_bits
from emocircuits.provenance import sha256_array, sha256_json

KIND, VERSION = "activation-store", 1
UNFINISHED = b"0" * 64
PROGRESS_SCHEMA = "emocircuits.store-progress"
COMMIT_SECONDS = 1.0


class ActivationStoreWriter:
    """Fills a store prompt by prompt. The whole file is laid out first, so every row has its place from the start.

    Rows go to `<path>.part`; which prompts are done stands in `<path>.progress.json`, replaced atomically after the rows
    were synced to disk. A writer with the same plan (sites, prompts, tokens, metadata, dtype) goes on from there; a
    `.part` of another plan is discarded. `finish` hashes the content and renames the file.

    Args:
        path: where the finished store will lie.
        sites: hook names.
        d_model: width of a row.
        prompts: one line per prompt with at least a unique `id`; missing text becomes "".
        tokens: the token ids of each prompt.
        metadata: plain values, `model_name` and `model_hash` among them.
        dtype: `bfloat16` or `float32` on disk.

    Raises:
        UserError: float16 or another dtype, ids not unique, tokens that do not fit the prompts, or a second writer.
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
    ):
        if dtype not in ("bfloat16", "float32"):
            cure = "float16 overflows at 65504" if dtype == "float16" else None
            raise UserError(f"an activation store cannot hold dtype '{dtype}'", expected="bfloat16 or float32", cure=cure)
        self.path, self.sites, self.d_model, self.dtype = Path(path), tuple(sites), d_model, dtype
        self._prompts = _table(prompts, tokens)
        self._about = {
            "sites": list(self.sites),
            "d_model": d_model,
            "dtype": dtype,
            "metadata": metadata,
            "columns": list(self._prompts.columns),
        }
        self._lengths = self._prompts["n_tokens"].to_numpy()
        self._offsets = self._prompts["offset"].to_numpy()
        self._rows = {
            "token": np.concatenate(tokens).astype(np.int32),
            "position": np.concatenate([np.arange(n) for n in self._lengths]).astype(np.int32),
            "prompt": np.repeat(np.arange(len(tokens)), self._lengths).astype(np.int32),
        }
        self._plan = sha256_json(
            [
                self._about,
                self._prompts.to_json(orient="split", double_precision=15),
                [sha256_array(column) for column in self._rows.values()],
            ]
        )
        self._part, self._progress = Path(f"{path}.part"), Path(f"{path}.progress.json")
        self._lock, self._fd, self._committed_at = -1, -1, 0.0
        self._done = np.zeros(len(tokens), dtype=bool)
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
        return self._done.copy()

    def append(self, prompt_indices: Sequence | np.ndarray, activations: Mapping[str, np.ndarray]) -> None:
        """Writes all rows of some prompts at all sites.

        Args:
            prompt_indices: positions in the prompt table.
            activations: per site `(row, d_model)`, the prompts' rows one prompt after another in the order of
                `prompt_indices`; float32, or uint16 bfloat16 bit patterns for a bfloat16 store.

        Raises:
            UserError: a missing site, a wrong shape, float16, NaN or infinity; nothing is written then.
            Failure: the disk is full.
        """
        chosen = np.asarray(prompt_indices, dtype=np.int64)
        n_rows = int(self._lengths[chosen].sum())
        encoded = {site: self._encode(site, activations, n_rows) for site in self.sites}
        starts = np.concatenate([[0], np.cumsum(self._lengths[chosen])])
        breaks = np.flatnonzero(np.diff(chosen) != 1) + 1
        runs = list(zip([0, *breaks], [*breaks, len(chosen)], strict=True))
        try:
            for site, block in encoded.items():
                width = self.d_model * block.itemsize
                for first, last in runs if len(chosen) else ():
                    place = self._places[site] + int(self._offsets[chosen[first]]) * width
                    _write_all(self._fd, block[starts[first] : starts[last]], place)
        except OSError as error:
            raise write_failure(self.path, error) from error
        self._done[chosen] = True
        if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Syncs the rows to disk, then records which prompts are done (`append` does this once a second)."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise write_failure(self.path, error) from error
        write_json(self._progress, {"plan": self._plan, "done": _ranges(self._done)}, schema=PROGRESS_SCHEMA, version=1)
        self._committed_at = time.monotonic()

    def finish(self) -> None:
        """Hashes the content and renames the file into place.

        Raises:
            UserError: some prompts were not appended.
        """
        if not self._done.all():
            missing = np.flatnonzero(~self._done)
            raise UserError(
                f"{len(missing)} of {len(self._done)} prompts have no activations (first: {missing[0]})",
                cure="append them before finishing",
            )
        if self._fd >= 0:
            try:
                self.commit()
                os.pwrite(self._fd, self._content_hash(), self._places["content_hash"])
                os.fsync(self._fd)
                os.replace(self._part, self.path)
            except OSError as error:
                raise write_failure(self.path, error) from error
        self._progress.unlink(missing_ok=True)
        self.close()
        self._lock_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the files; unfinished work stays for the next writer."""
        for handle in (self._fd, self._lock):
            if handle >= 0:
                os.close(handle)
        self._fd = self._lock = -1

    def __enter__(self) -> "ActivationStoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            self.commit()
        self.close()

    @property
    def _lock_path(self) -> Path:
        return Path(f"{self.path}.lock")

    def _start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing {self.path}", cure="wait for it or choose another --out") from error
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # of a writer that was killed
            left.unlink(missing_ok=True)
        known = self._recorded()
        if known is not None and not self._part.exists() and self._is_finished():
            self._done[:] = True
            return
        if known is None or not self._part.exists():
            self._progress.unlink(missing_ok=True)
            self._lay_out()
            write_json(self._progress, {"plan": self._plan, "done": []}, schema=PROGRESS_SCHEMA, version=1)
            known = []
        for first, last in known:
            self._done[first:last] = True
        with hdf5.open_stamped(self._part, KIND, VERSION) as file:
            self._places = {site: file["activations"][site].id.get_offset() for site in self.sites}
            self._places["content_hash"] = file["content_hash"].id.get_offset()
        self._fd = os.open(self._part, os.O_RDWR)
        self._committed_at = time.monotonic()

    def _recorded(self) -> list[list[int]] | None:
        if not self._progress.exists():
            return None
        try:
            recorded = read_json(self._progress, schema=PROGRESS_SCHEMA, version=1)
        except UserError:
            return None
        return recorded["done"] if recorded.get("plan") == self._plan else None

    def _is_finished(self) -> bool:
        try:
            with hdf5.open_stamped(self.path, KIND, VERSION) as file:
                return hdf5.read_json(file, "plan") == self._plan
        except UserError:
            return False

    def _lay_out(self) -> None:
        with atomic_path(self._part) as temporary:
            with h5py.File(temporary, "w") as file:
                hdf5.stamp(file, KIND, VERSION)
                hdf5.write_json(file, "about", self._about)
                hdf5.write_json(file, "plan", self._plan)
                hdf5.write_array(file, "content_hash", np.frombuffer(UNFINISHED, dtype=np.uint8))
                for name, column in self._prompts.items():
                    hdf5.write_array(file.require_group("prompts"), name, column.to_numpy())
                for name, column in self._rows.items():
                    hdf5.write_array(file.require_group("rows"), name, column)
                for site in self.sites:
                    self._allocate(file.require_group("activations"), site)
            with open(temporary, "r+b") as raw:
                os.posix_fallocate(raw.fileno(), 0, temporary.stat().st_size)

    def _allocate(self, group: h5py.Group, site: str) -> None:
        bits = self.dtype == "bfloat16"
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)  # no clock in the file: the same content gives the same bytes
        space = h5py.h5s.create_simple((self._rows["token"].size, self.d_model))
        kind = h5py.h5t.STD_U16LE if bits else h5py.h5t.IEEE_F32LE
        data = h5py.Dataset(h5py.h5d.create(group.id, site.encode(), kind, space, layout))
        data.attrs[hdf5.ENCODING], data.attrs[hdf5.ENCODING_VERSION] = "bfloat16-bits" if bits else "array", 1

    def _encode(self, site: str, activations: Mapping[str, np.ndarray], n_rows: int) -> np.ndarray:
        if site not in activations:
            raise UserError(f"no activations for the site '{site}'", expected=", ".join(self.sites))
        block = np.asarray(activations[site])
        if block.shape != (n_rows, self.d_model):
            raise UserError(
                f"activations at {site} have shape {block.shape}", expected=f"(row, d_model) = {(n_rows, self.d_model)}"
            )
        if block.dtype == np.float16:
            raise UserError(
                f"float16 activations at {site}", expected="float32 or bfloat16", cure="float16 overflows at 65504"
            )
        if self.dtype == "bfloat16":
            block = block if block.dtype == np.uint16 else bf16_bits(block.astype(np.float32, copy=False))
            finite = (block & 0x7F80) != 0x7F80
        else:
            block = np.ascontiguousarray(block, dtype=np.float32)
            finite = np.isfinite(block)
        if not finite.all():
            bad = int((~finite.all(axis=1)).sum())
            raise UserError(
                f"{bad} of {n_rows} activation rows at {site} hold NaN or infinity",
                cure="check the model's weights and its precision",
            )
        return np.ascontiguousarray(block)

    def _content_hash(self) -> bytes:
        digest = hashlib.sha256(self._plan.encode())
        itemsize = 2 if self.dtype == "bfloat16" else 4
        for site in self.sites:
            place, left = self._places[site], self._rows["token"].size * self.d_model * itemsize
            while left:
                data = os.pread(self._fd, min(left, 1 << 24), place)
                digest.update(data)
                place, left = place + len(data), left - len(data)
        return digest.hexdigest().encode()


def _table(prompts: pd.DataFrame, tokens: Sequence[np.ndarray]) -> pd.DataFrame:
    if "id" not in prompts or prompts["id"].duplicated().any():
        raise UserError("the prompt table has no column 'id' or an id occurs twice", expected="one unique id per prompt")
    if len(tokens) != len(prompts) or len(prompts) == 0:
        raise UserError(
            f"token ids of {len(tokens)} prompts for {len(prompts)} prompts", expected="one array per prompt, at least one"
        )
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    if (lengths == 0).any():
        raise UserError(f"prompt '{prompts['id'].iloc[int(np.argmin(lengths))]}' has no tokens")
    table = prompts.reset_index(drop=True).drop(columns=["n_tokens", "offset"], errors="ignore")
    for name, column in table.items():
        if column.dtype.kind not in "biuf":
            table[name] = column.where(column.notna(), "").astype(str).astype(object)
    return table.assign(n_tokens=lengths, offset=np.cumsum(lengths) - lengths)


def _ranges(done: np.ndarray) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], done, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).tolist()


def _write_all(fd: int, block: np.ndarray, place: int) -> None:
    data = memoryview(block).cast("B")
    while data:
        written = os.pwrite(fd, data, place)
        data, place = data[written:], place + written
