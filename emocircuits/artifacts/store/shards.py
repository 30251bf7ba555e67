"""The files behind an activation store: shards of rows, and the manifest that says which are finished.

A store `activations.h5` lies beside the directory `activations.shards` with `manifest.json` and `00000.h5`,
`00001.h5`, …. A shard holds the rows of whole prompts at every site, one preallocated contiguous dataset
`activations/<site>` each, so a row's place in the file is known before it is written and any row can be read
by mapping the file into memory. Values are little endian whatever the machine.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Int

from emocircuits.errors import UserError
from emocircuits.io import hdf5
from emocircuits.io.atomic import atomic_path
from emocircuits.io.documents import read_json, write_json
from emocircuits.progress import track
from emocircuits.provenance import sha256_file, sha256_json

STORE, SHARD, VERSION = "activation-store", "activation-shard", 2
SCHEMA = "emocircuits.activation-store"
SHARD_ROWS, SHARD_BYTES = 65_536, 1 << 30
DISK_DTYPES = {"bfloat16": "<u2", "float32": "<f4"}


@dataclass(frozen=True)
class Shard:
    """A finished shard as the manifest records it.

    Attributes:
        file: its name in the shard directory.
        first_prompt, n_prompts: the prompts whose rows it holds.
        first_row, n_rows: their rows in the store.
        n_bytes: size of the file.
        offsets: site -> where its rows start in the file.
        sha256: SHA-256 of the file.
    """

    file: str
    first_prompt: int
    n_prompts: int
    first_row: int
    n_rows: int
    n_bytes: int
    offsets: dict[str, int]
    sha256: str


def shard_directory(path: str | Path) -> Path:
    """Where the shards of the store at `path` lie."""
    path = Path(path)
    return path.with_name(f"{path.name.removesuffix('.h5')}.shards")


def manifest_path(path: str | Path) -> Path:
    """Where the manifest of the store at `path` lies."""
    return shard_directory(path) / "manifest.json"


def default_shard_rows(n_sites: int, d_model: int, dtype: str) -> int:
    """Rows per shard: 65,536, fewer where that would pass 1 GiB."""
    width = n_sites * d_model * np.dtype(DISK_DTYPES[dtype]).itemsize
    return max(1024, min(SHARD_ROWS, SHARD_BYTES // width))


def split_prompts(lengths: Int[np.ndarray, "prompt"], shard_rows: int) -> Int[np.ndarray, "edge"]:
    """Edges of the shards in the prompt table: whole prompts, as many as fit in `shard_rows` (at
    least one).
    """
    ends, edges = np.cumsum(lengths), [0]
    while edges[-1] < len(lengths):
        before = int(ends[edges[-1] - 1]) if edges[-1] else 0
        edges.append(max(edges[-1] + 1, int(np.searchsorted(ends, before + shard_rows, side="right"))))
    return np.array(edges)


def write_manifest(path: Path, about: dict[str, Any], shards: Sequence[Shard]) -> None:
    """Replaces the manifest of the store at `path`; `about` is what does not change while shards
    are added.
    """
    write_json(
        manifest_path(path),
        {**about, "shards": [asdict(shard) for shard in shards]},
        schema=SCHEMA,
        version=VERSION,
    )


def read_manifest(path: Path) -> tuple[dict[str, Any], tuple[Shard, ...]]:
    """The manifest of the store at `path` and the finished shards in it.

    Raises:
        UserError: missing, damaged, or of another version.
    """
    where = manifest_path(path)
    value = read_json(where, schema=SCHEMA, version=VERSION)
    try:
        shards = tuple(Shard(**shard) for shard in value["shards"])
        about = {
            name: value[name]
            for name in ("plan", "n_rows", "n_prompts", "n_shards", "model_name", "model_hash")
        }
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where} is damaged ({error})", cure=f"delete {shard_directory(path)} and collect again"
        ) from error
    return about, shards


def content_hash(plan: str, shards: Sequence[Shard]) -> str:
    """Hash of everything in a store: its plan (tables, sites, model) and the hash of every shard."""
    return sha256_json([plan, [shard.sha256 for shard in shards]])


def check_sizes(path: Path, shards: Sequence[Shard]) -> None:
    """Checks that every shard is there in full (its content is checked by `emocircuits store verify`).

    Raises:
        UserError: a shard is missing or truncated; the message names it.
    """
    for shard in shards:
        file = shard_directory(path) / shard.file
        found = file.stat().st_size if file.is_file() else None
        if found != shard.n_bytes:
            state = "is missing" if found is None else f"is truncated: {found} bytes"
            raise UserError(
                f"{file} {state}",
                expected=f"{shard.n_bytes} bytes",
                cure="copy the whole shard directory beside the store, or collect again",
            )


def check_contents(path: Path, shards: Sequence[Shard]) -> None:
    """Reads every shard and compares its hash with the manifest's.

    Raises:
        UserError: a shard is missing, truncated or holds other bytes; the message names it.
    """
    for shard in track(shards, "verify", total=len(shards)):
        check_sizes(path, [shard])
        file = shard_directory(path) / shard.file
        found = sha256_file(file)
        if found != shard.sha256:
            raise UserError(
                f"{file} has the SHA-256 {found[:12]}…",
                expected=f"{shard.sha256[:12]}… as in {manifest_path(path)}",
                cure="the file was changed or damaged: collect again, only this shard is redone",
            )


def reusable(path: Path, head: dict[str, Any], replace: bool) -> list[Shard]:
    """Finished, undamaged shards of the store at `path` that a writer may resume from.

    Args:
        path: the store's file.
        head: what the writer's manifest says: its `plan`, `n_prompts` and `model_name`.
        replace: whether a store of another plan may be thrown away.

    Raises:
        UserError: another plan at `path` without `replace`, or something that is no store.
    """
    if not manifest_path(path).exists() and not path.exists():
        return []
    if replace and not _has_plan(path, head["plan"]):
        return []
    if not manifest_path(path).exists():
        raise UserError(
            f"{path} exists and has no {manifest_path(path)}",
            expected="an activation store or nothing",
            cure="choose another path or delete the file",
        )
    about, shards = read_manifest(path)
    if about["plan"] != head["plan"]:
        raise UserError(
            f"{path} holds activations of {about['n_prompts']} prompts of the model '{about['model_name']}'",
            expected="the same model, sites, prompts and dtype as asked for now "
            f"({head['n_prompts']} prompts of '{head['model_name']}')",
            cure=f"choose another path, or delete {path.name} and {shard_directory(path).name}",
        )
    usable = []
    for shard in shards:
        with suppress(UserError):  # a missing or damaged shard is redone
            check_contents(path, [shard])
            usable.append(shard)
    return usable


def read_at(fd: int, block: np.ndarray, place: int) -> None:
    """Fills an array with the bytes from `place` on.

    Raises:
        OSError: the file ends before.
    """
    data = memoryview(block).cast("B")
    while data:
        count = os.preadv(fd, [data], place)
        if not count:
            raise OSError("the file ends before the rows that were asked for")
        data, place = data[count:], place + count


def write_at(fd: int, block: np.ndarray, place: int) -> None:
    """Writes all bytes of an array from `place` on."""
    data = memoryview(block).cast("B")
    while data:
        written = os.pwrite(fd, data, place)
        data, place = data[written:], place + written


def lay_out_shard(
    path: Path, sites: Sequence[str], n_rows: int, d_model: int, dtype: str, attributes: dict[str, Any]
) -> dict[str, int]:
    """Makes a shard file with room for all its rows on disk and returns where each site's rows start.

    Raises:
        OSError: the disk is full; no file is left behind.
    """
    try:
        with h5py.File(path, "w") as file:
            hdf5.stamp(file, SHARD, VERSION)
            file.attrs.update(attributes)
            group = file.require_group("activations")
            offsets = {site: _allocate(group, site, (n_rows, d_model), dtype) for site in sites}
        with open(path, "r+b") as raw:
            os.posix_fallocate(raw.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return offsets


def write_index(
    path: Path,
    about: dict[str, Any],
    prompts: dict[str, np.ndarray],
    rows: dict[str, np.ndarray],
    shards: Sequence[Shard],
) -> None:
    """Writes the store's own file: tables, and per site a virtual dataset over all shards; its presence means
    "finished".
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        hdf5.stamp(file, STORE, VERSION)
        hdf5.write_value(file, "about", about)
        for name, column in prompts.items():
            hdf5.write_array(file.require_group("prompts"), name, column)
        for name, column in rows.items():
            hdf5.write_array(file.require_group("rows"), name, column)
        group = file.require_group("activations")
        for site in about["sites"]:
            _virtual(group, site, shard_directory(path).name, shards, about["d_model"], about["dtype"])


def _has_plan(path: Path, plan: str) -> bool:
    try:
        return read_manifest(path)[0]["plan"] == plan
    except UserError:
        return False


def _allocate(group: h5py.Group, site: str, shape: tuple[int, int], dtype: str) -> int:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return _create(group, site, shape, dtype, layout).id.get_offset()


def _virtual(
    group: h5py.Group, site: str, folder: str, shards: Sequence[Shard], d_model: int, dtype: str
) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.VIRTUAL)
    n_rows = sum(shard.n_rows for shard in shards)
    for shard in shards:
        target = h5py.h5s.create_simple((n_rows, d_model))
        target.select_hyperslab((shard.first_row, 0), (shard.n_rows, d_model))
        source = h5py.h5s.create_simple((shard.n_rows, d_model))
        layout.set_virtual(target, f"{folder}/{shard.file}".encode(), f"activations/{site}".encode(), source)
    _create(group, site, (n_rows, d_model), dtype, layout)


def _create(
    group: h5py.Group, site: str, shape: tuple[int, int], dtype: str, layout: h5py.h5p.PropDCID
) -> h5py.Dataset:
    layout.set_obj_track_times(False)  # no clock in the file: the same content gives the same bytes
    kind = h5py.h5t.STD_U16LE if dtype == "bfloat16" else h5py.h5t.IEEE_F32LE
    data = h5py.Dataset(h5py.h5d.create(group.id, site.encode(), kind, h5py.h5s.create_simple(shape), layout))
    data.attrs[hdf5.ENCODING] = "bfloat16-bits" if dtype == "bfloat16" else "array"
    data.attrs[hdf5.ENCODING_VERSION] = 1
    return data
