"""Several processes on one job, started by `torchrun`; a process that was started alone is rank 0 of 1.

    torchrun --nproc-per-node 2 -m emocircuits run …

Ranks share work that falls into independent pieces (shards of a store, SAEs of different sites) or meet in
sums and barriers. When one of them dies, its connections close and the others stop with one line; the same
command resumes.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from emocircuits.errors import Failure

T = TypeVar("T")
_APART: ContextVar[bool] = ContextVar("apart", default=False)
ROW_TYPES = ("<f4", "<f8", "<i8")
# a rank may wait for hours while another one works; a dead one is noticed at once
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """Which process of how many this is."""

    rank: int
    size: int

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes what all share."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> list[T]:
        """Every size-th item, from the rank-th on."""
        return list(items[self.rank :: self.size])

    def slice_of(self, length: int) -> slice:
        """This rank's part of `length` rows, consecutive ranks side by side."""
        return slice(length * self.rank // self.size, length * (self.rank + 1) // self.size)


def launched() -> Ranks:
    """This process among those that `torchrun` started, connected or not."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def ranks() -> Ranks:
    """This process among those that share its work: those of its `process_group`, else it is alone."""
    return Ranks(0, 1) if _group() is None else launched()


@contextmanager
def process_group(device: str = "cpu") -> Iterator[Ranks]:
    """Connects the ranks for as long as the context lasts (NCCL for CUDA devices, gloo otherwise); alone it
    does nothing.
    """
    me = launched()
    if me.alone or _group() is not None:
        yield me
        return
    import torch.distributed as dist

    _meet(lambda: dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE))
    try:
        yield me
    finally:
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process does its work by itself, whatever other ranks there are: what the first one does
    while they wait.
    """
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


def barrier() -> None:
    """Waits until every rank is here.

    Raises:
        Failure: another rank is gone.
    """
    group = _group()
    if group is not None:
        _meet(group.barrier)


def sum_over_ranks(tensor: Any) -> None:
    """Adds a tensor up over all ranks, in place.

    Raises:
        Failure: another rank is gone.
    """
    group = _group()
    if group is not None:
        _meet(lambda: group.all_reduce(tensor))


def gather(tensor: Any) -> Any:
    """The tensors of all ranks (of one shape) stacked along a new first axis.

    Raises:
        Failure: another rank is gone.
    """
    import torch

    group = _group()
    if group is None:
        return tensor[None]
    found = [torch.empty_like(tensor) for _ in range(group.get_world_size())]
    _meet(lambda: group.all_gather(found, tensor))
    return torch.stack(found)


def gather_rows(rows: Any) -> Any:
    """The numpy arrays of all ranks under one another, in the order of the ranks.

    Args:
        rows: this rank's array (float32, float64 or int64, up to four axes); None where it has none. All
            ranks' have one type and, but for the first axis, one shape.

    Raises:
        Failure: no rank has any, or another rank is gone.
    """
    import numpy as np
    import torch

    if _group() is None:
        return rows
    about = torch.zeros(6, dtype=torch.int64)  # number of axes, type, and up to four lengths
    if rows is not None:
        rows = np.ascontiguousarray(rows)
        about[:2] = torch.tensor([rows.ndim, ROW_TYPES.index(rows.dtype.str)])
        about[2 : 2 + rows.ndim] = torch.tensor(rows.shape)
    shapes = gather(about).tolist()
    given = [one for one in shapes if one[0]]
    if not given:
        raise Failure("no rank has a result to gather")
    row_bytes = (
        int(np.prod(given[0][3 : 2 + given[0][0]], dtype=np.int64))
        * np.dtype(ROW_TYPES[given[0][1]]).itemsize
    )
    buffer = torch.zeros(row_bytes * max(one[2] for one in shapes), dtype=torch.uint8)
    if rows is not None:
        held = np.frombuffer(rows.tobytes(), dtype=np.uint8)
        buffer[: len(held)] = torch.from_numpy(held.copy())
    parts = [part[: row_bytes * one[2]] for part, one in zip(gather(buffer).numpy(), shapes, strict=True)]
    rows_in_all = sum(one[2] for one in shapes)  # rows may be empty: their number cannot be inferred
    together = np.concatenate(parts).view(ROW_TYPES[given[0][1]])
    return together.reshape(rows_in_all, *given[0][3 : 2 + given[0][0]])


def _group() -> Any:
    """torch.distributed, where the ranks are connected."""
    if launched().alone or _APART.get() or "torch" not in sys.modules:
        return None
    import torch.distributed as dist

    return dist if dist.is_initialized() else None


def _meet(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:  # torch.distributed has no narrower class for a closed connection
        me = launched()
        raise Failure(
            f"rank {me.rank} of {me.size} lost the others ({str(error).splitlines()[0][:120]})",
            cure="a rank was killed or failed, see its message above; the same command resumes",
        ) from error
