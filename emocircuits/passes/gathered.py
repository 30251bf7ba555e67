"""Per-prompt results of batches that the ranks of a job share (`emocircuits.ranks`); a process of its own
has them all.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.task import Task
from emocircuits.progress import track
from emocircuits.ranks import gather_rows, ranks


class Gathered:
    """Batches to go through, and what each of them gave.

    Ranks take turns over the same batches that one process would go through, so the numbers are the same to
    the last bit.

    Args:
        task: whose prompts.
        what: text of the progress bar.
        max_tokens: tokens per pass, where they are fewer than the task's.
    """

    def __init__(self, task: Task, what: str, max_tokens: int | None = None):
        self._batches, self._what = list(task.batches(max_tokens)), what
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._passes = 0.0

    def shard(self) -> Iterator[PairBatch]:
        """This rank's batches."""
        return iter(track(ranks().shard(self._batches), self._what))

    def keep(self, batch: PairBatch, *values: Tensor, passes: float = 0) -> None:
        """Notes what a batch gave, one row per prompt each, and the passes over it."""
        self._rows.append((batch.index.numpy(force=True), *map(as_array, values)))
        self._passes += passes * len(batch)

    def collect(self) -> tuple[tuple[np.ndarray, ...], float]:
        """What all batches of all ranks gave, prompts in the order of their index, and passes over all
        prompts.
        """
        own = [np.concatenate(parts) for parts in zip(*self._rows, strict=True)]
        width = int(gather_rows(np.array([[len(own)]], dtype=np.int64)).max())
        index, *values = (gather_rows(own[place] if own else None) for place in range(width))
        order = np.argsort(index, kind="stable")
        rows = gather_rows(np.array([[self._passes]], dtype=np.float64)).sum()
        return tuple(value[order] for value in values), float(rows) / sum(map(len, self._batches))


def as_array(values: Tensor) -> np.ndarray:
    """A tensor as a numpy array; numpy has no bfloat16."""
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy(force=True)


def whole_passes(passes: float) -> int:
    """Passes as a whole number, rounded up past what sums of fractions leave."""
    return int(np.ceil(passes - 1e-9))
