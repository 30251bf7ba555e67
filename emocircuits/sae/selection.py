"""Which features are active: exact selections from a matrix of pre-activations, as a list instead of a dense
mask.

`torch.topk` compares every element with a heap. On the CPU a feature's group is looked at first: a row's k
largest elements lie in the k groups with the largest maxima (were one outside, k groups would hold an element
at least as large), so all but those groups are skipped; and the k-th largest value, which numpy's vectorised
partition finds quickest, tells the places. The result is the same. In rows with equal elements (or NaN) at
the edge `torch.topk` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

GROUPED_FROM = 256
SORTED_UP_TO = 512
"""Columns up to which numpy sorts a row faster than it finds its k-th largest element."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Active entries of a (token, feature) matrix, ordered by token.

    Attributes:
        values: what is selected; for `largest_per_row` as it is, negative or not.
        features: feature of every entry.
        rows: token of every entry, ascending.
        shape: (tokens, features) of the matrix.
    """

    values: Float[Tensor, "active"]
    features: Int[Tensor, "active"]
    rows: Int[Tensor, "active"]
    shape: tuple[int, int]

    @cached_property
    def row_starts(self) -> Int[Tensor, "batch"]:
        """First entry of every token."""
        return _starts(torch.bincount(self.rows, minlength=self.shape[0]))

    @cached_property
    def feature_starts(self) -> Int[Tensor, "d_sae"]:
        """First entry of every feature in `by_feature`."""
        return _starts(torch.bincount(self.features, minlength=self.shape[1]))

    @cached_property
    def by_feature(self) -> Int[Tensor, "active"]:
        """The entries ordered by feature, those of one feature by token."""
        if self.features.device.type == "cpu" and self.shape[1] <= 1 << 16:
            # numpy sorts 16-bit keys by radix, in linear time
            return torch.from_numpy(np.argsort(self.features.numpy().astype(np.uint16), kind="stable"))
        return torch.argsort(self.features, stable=True)


def stacked(parts: Sequence[Selection]) -> Selection:
    """Selections from parts of a batch, one after the other."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.shape[0] for part in parts)])
    rows = [part.rows + int(start) for part, start in zip(parts, starts, strict=False)]
    values, features = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "features"))
    return Selection(values, features, torch.cat(rows), (int(starts[-1]), parts[0].shape[1]))


def largest_per_row(hidden: Float[Tensor, "batch d_sae"], k: int) -> Selection:
    """The k largest entries of every row."""
    batch, width = hidden.shape
    features = (
        _search(hidden, k)
        if hidden.device.type == "cpu"
        else torch.topk(hidden, k, dim=-1, sorted=False).indices
    )
    rows = torch.arange(batch, device=hidden.device).repeat_interleave(k)
    return Selection(hidden.gather(1, features).flatten(), features.flatten(), rows, (batch, width))


def largest_of_batch(
    hidden: Float[Tensor, "batch d_sae"], count: int, guess: float
) -> tuple[Selection, float]:
    """The `count` largest positive entries of the whole matrix, or all positive ones where there are fewer.

    Args:
        hidden: pre-activations.
        count: how many.
        guess: a value that most unselected entries are expected to lie below; only the speed depends on it.

    Returns:
        the selection, and its smallest value (0 where everything positive was taken): a basis for the next
        guess.
    """
    batch, width = hidden.shape
    flat = hidden.view(-1)
    guess = max(guess, 0.0)
    places = _above(flat, guess)
    if len(places) < count and guess > 0:
        places = _above(flat, 0.0)
    values, last = flat[places], 0.0
    if count == 0:
        places, values = places[:0], values[:0]
    elif len(places) > count:
        last = float(torch.topk(values, count, sorted=False).values.min())
        kept = values >= last
        surplus = int(kept.sum()) - count
        if surplus:  # equal values at the edge: the last of them go
            kept[(values == last).nonzero()[-surplus:]] = False
        places, values = places[kept], values[kept]
    rows = torch.div(places, width, rounding_mode="floor")
    return Selection(values, places - rows * width, rows, (batch, width)), last


def _above(flat: Tensor, bound: float) -> Tensor:
    mask = flat > bound
    if flat.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _search(hidden: Tensor, k: int) -> Tensor:
    """Features of the k largest elements of every row, ascending within the candidates of a row."""
    (batch, width), groups = hidden.shape, _groups(hidden.shape[1], k)
    if groups is None:
        return _largest(hidden, k)
    members = width // groups
    grouped = hidden.view(batch, members, groups)
    best = _largest(grouped.amax(1), k)
    candidates = torch.gather(grouped, 2, best[:, None, :].expand(batch, members, k)).view(batch, members * k)
    places = _largest(candidates, k)
    return torch.div(places, k, rounding_mode="floor") * groups + best.gather(1, places % k)


def _largest(matrix: Tensor, k: int) -> Tensor:
    """Columns of the k largest elements of every row, ascending."""
    rows, columns = matrix.shape
    if matrix.dtype == torch.bfloat16 and columns <= 1 << 16:
        # equal values are common in bfloat16: the column in the lower half of the bits tells them apart
        matrix = (matrix.float().view(torch.int32) | torch.arange(columns, dtype=torch.int32)).view(
            torch.float32
        )
    values = matrix.numpy()
    in_order = np.sort if columns <= SORTED_UP_TO else partial(np.partition, kth=columns - k)
    chosen = values >= in_order(values, axis=1)[:, columns - k, None]
    places = np.flatnonzero(chosen)
    if len(places) != rows * k:
        unclear = np.flatnonzero(chosen.sum(1) != k)
        chosen[unclear] = False
        chosen[unclear[:, None], torch.topk(matrix[torch.from_numpy(unclear)], k).indices.numpy()] = True
        places = np.flatnonzero(chosen)
    return torch.from_numpy(places.reshape(rows, k) - np.arange(0, rows * columns, columns)[:, None])


def _groups(width: int, k: int) -> int | None:
    """How many groups read the fewest elements: a divisor of the width near √(width · k); None where groups
    do not pay.
    """
    if width < GROUPED_FROM or width < 8 * k:
        return None
    wanted = (width * k) ** 0.5
    options = [
        width // members for members in range(2, 65) if width % members == 0 and width // members >= 2 * k
    ]
    return min(options, key=lambda groups: abs(groups - wanted)) if options else None


def _starts(counts: Tensor) -> Tensor:
    return torch.cumsum(counts, 0) - counts
