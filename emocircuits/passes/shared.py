"""Per-prompt results of batches that the ranks of a job share (`emocircuits.ranks`); a process of its own
has them all.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from emocircuits.passes.pairs import PairBatch, chunks
from emocircuits.progress import track
from emocircuits.ranks import gather_rows, ranks


class Shared:
    """Batches to go through, and what was found in them.

    Ranks take turns over the same batches that one process would go through, so the numbers are the same to
    the last bit.

    Args:
        batches: prompt pairs, grouped by length.
        max_tokens: tokens per pass.
        what: text of the progress bar.
    """

    def __init__(self, batches: Sequence[PairBatch], max_tokens: int, what: str):
        self._chunks, self._what = list(chunks(batches, max_tokens)), what
        self._found: list[tuple[np.ndarray, ...]] = []
        self._passes = 0.0

    def mine(self) -> Iterator[PairBatch]:
        """This rank's batches."""
        return iter(track(ranks().mine(self._chunks), self._what))

    @property
    def prompts(self) -> int:
        """Prompts of all ranks."""
        return sum(map(len, self._chunks))

    def keep(self, chunk: PairBatch, *values: Tensor, passes: float | int = 0) -> None:
        """Notes what a batch gave, one row per prompt each, and the passes over it."""
        self._found.append((chunk.index.numpy(force=True), *(value.numpy(force=True) for value in values)))
        self._passes += passes * len(chunk)

    def collect(self) -> tuple[tuple[np.ndarray, ...], float]:
        """What all batches of all ranks gave, prompts in the order of their index, and passes over all
        prompts.
        """
        own = [np.concatenate(parts) for parts in zip(*self._found, strict=True)]
        width = int(gather_rows(np.array([[len(own)]], dtype=np.int64)).max())
        index, *values = (gather_rows(own[place] if own else None) for place in range(width))
        order = np.argsort(index, kind="stable")
        rows = gather_rows(np.array([[self._passes]], dtype=np.float64)).sum()
        return tuple(value[order] for value in values), float(rows) / self.prompts
