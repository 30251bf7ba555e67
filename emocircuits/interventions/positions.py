"""Which positions an edit covers, in whole prompts and in passes that add one token to a key-value cache."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from emocircuits.errors import UserError

Positions = Literal["all"] | slice | Sequence[int] | None


class Counter:
    """Where the passes of a context start: a pass over one token after another pass goes on, any longer pass is a new prompt."""

    def __init__(self) -> None:
        self._seen = 0

    def start(self, length: int) -> int:
        """The first position of a pass of so many tokens."""
        start = self._seen if length == 1 and self._seen else 0
        self._seen = start + length
        return start


def check_positions(positions: Positions) -> Positions:
    """The same positions.

    Raises:
        UserError: neither None, "all", a slice nor a list, or counted from the end.
    """
    if isinstance(positions, str) and positions != "all":
        raise UserError(f"positions '{positions}'", expected="'all', a slice or a list of positions")
    ends = () if positions is None or isinstance(positions, str) else (
        (positions.start or 0, positions.stop or 0) if isinstance(positions, slice) else tuple(positions))
    if any(int(end) < 0 for end in ends):
        raise UserError(f"positions {positions}", expected="positions counted from the front")
    return positions


def covered(positions: Positions, start: int, length: int) -> Bool[Tensor, "pos"]:
    """Which of the positions start … start + length - 1 are covered."""
    here = torch.arange(start, start + length)
    if positions is None or isinstance(positions, str):
        return torch.ones(length, dtype=torch.bool)
    if isinstance(positions, slice):
        return torch.isin(here, torch.arange(start + length)[positions])
    return torch.isin(here, torch.tensor([int(position) for position in positions], dtype=torch.long))
