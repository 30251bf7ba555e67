"""Which positions of a batch an intervention touches, and how much: the same with padding and with a
key-value cache.

A position is the place of a token in its own prompt, so padding does not shift it. Padding itself is never
touched.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from emocircuits.errors import UserError

Positions = str | slice | Sequence[int] | None
"""`"all"` (or None), `"generated"`, a span, or a list."""

Schedule = Callable[[Float[np.ndarray, "*rest"]], Float[np.ndarray, "*rest"]]


def parse_positions(text: str) -> Positions:
    """`all`, `generated`, a span `12:30` or `12:` or `:5`, or a list `3,7,9`.

    Raises:
        UserError: anything else.
    """
    if text in ("all", "generated"):
        return text
    try:
        if ":" in text:
            start, stop = (int(part) if part.strip() else None for part in text.split(":"))
            return slice(start, stop)
        return [int(part) for part in text.split(",")]
    except ValueError:
        expected = "all, generated, a span such as 12:30 or 12:, or a list such as 3,7"
        raise UserError(f"positions '{text}'", expected=expected) from None


def ramp(start: float | int, stop: float | int) -> Schedule:
    """0 up to `start`, then linearly up to 1 at `stop`, and 1 from there on."""
    if not stop > start:
        raise UserError(f"a ramp from {start} to {stop}", expected="a later end than beginning")
    return lambda positions: np.clip((positions - start) / (stop - start), 0.0, 1.0)


def fade(half_life: float | int, start: float | int = 0) -> Schedule:
    """1 up to `start`, then halved every `half_life` positions."""
    if not half_life > 0:
        raise UserError(f"a half-life of {half_life} positions", expected="above 0")
    return lambda positions: 0.5 ** (np.maximum(positions - start, 0.0) / half_life)


def parse_schedule(text: str) -> Schedule:
    """`ramp:START:STOP` or `fade:HALF_LIFE[:START]`.

    Raises:
        UserError: anything else.
    """
    name, *numbers = text.split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if name == "ramp" and len(values) == 2:
        return ramp(*values)
    if name == "fade" and len(values) in (1, 2):
        return fade(*values)
    raise UserError(
        f"schedule '{text}'", expected="ramp:START:STOP or fade:HALF_LIFE[:START], e.g. ramp:0:20"
    )


class Counter:
    """Where passes start, told apart pass by pass, since a hook sees only its activation.

    A pass over one column after an earlier pass is the next position of a cached generation, any other pass
    starts at the first position. What is generated comes after the first pass.

    Attributes:
        seen: columns after the last pass.
        prompt: columns of the first pass; 0 before it.
    """

    def __init__(self) -> None:
        self.seen = self.prompt = 0

    def start(self, columns: int) -> int:
        """The first column of a pass over so many."""
        start = self.seen if columns == 1 and self.seen else 0
        self.seen = start + columns
        self.prompt = self.prompt or self.seen
        return start


class Weights:
    """How much each column of each forward pass is steered (see `Counter`).

    Args:
        positions: see `Positions`; None means all.
        schedule: position -> factor; None means 1 everywhere.
        attention_mask: 1 for tokens and 0 for padding of the prompts; later columns are tokens.

    Raises:
        UserError: positions that are no positions.
    """

    def __init__(
        self,
        positions: Positions = None,
        schedule: Schedule | None = None,
        attention_mask: Int[torch.Tensor, "prompt pos"] | None = None,
    ):
        self.positions, self.schedule = check_positions(positions), schedule
        self.mask = None if attention_mask is None else np.asarray(attention_mask.cpu()).astype(bool)
        self.counter = Counter()
        self.longest = 0

    def next(self, rows: int, columns: int) -> Float[np.ndarray, "#prompt pos"]:
        """The factors of the next pass; one row for all where there is no padding."""
        start, seen = self.counter.start(columns), self.counter.seen
        real = self._real(rows)
        own_positions = (np.cumsum(real, axis=1) - 1)[:, start:seen]
        self.longest = max(self.longest, int(own_positions.max()) + 1)
        generated = np.arange(start, seen) >= self.counter.prompt
        chosen = real[:, start:seen] & _chosen(self.positions, own_positions, generated)
        return chosen * (
            1.0
            if self.schedule is None
            else np.asarray(self.schedule(own_positions.astype(np.float64)), dtype=np.float64)
        )

    def check(self) -> None:
        """Makes sure that every position asked for has been passed.

        Raises:
            UserError: a position lies after the longest prompt, generated tokens counted.
        """
        asked = self.positions
        first = (
            (asked.start or 0)
            if isinstance(asked, slice)
            else max(asked)
            if isinstance(asked, tuple) and asked
            else 0
        )
        if self.longest and first >= self.longest:
            raise UserError(
                f"position {first} lies outside the prompt of {self.longest} tokens",
                expected=f"0 to {self.longest - 1}",
                cure="positions count tokens from 0, special ones included",
            )

    def _real(self, rows: int) -> Bool[np.ndarray, "#prompt pos"]:
        if self.mask is None:
            return np.ones((1, self.counter.seen), dtype=bool)
        if len(self.mask) != rows:
            raise UserError(
                f"an attention mask over {len(self.mask)} prompts", expected=f"the batch's {rows}"
            )
        later = np.ones((rows, max(0, self.counter.seen - self.mask.shape[1])), dtype=bool)
        return np.concatenate([self.mask[:, : self.counter.seen], later], axis=1)


def covered(positions: Positions, start: int, length: int, prompt: int) -> Bool[torch.Tensor, "pos"]:
    """Which of the columns start … start + length - 1 of unpadded prompts of so many tokens are meant."""
    columns = np.arange(start, start + length)
    return torch.from_numpy(_chosen(check_positions(positions), columns[None], columns >= prompt)[0].copy())


def _chosen(
    positions: object, own_positions: Int[np.ndarray, "#prompt pos"], generated: Bool[np.ndarray, "pos"]
) -> np.ndarray:
    if isinstance(positions, slice):
        stop = np.inf if positions.stop is None else positions.stop
        start, step = positions.start or 0, positions.step or 1
        return (own_positions >= start) & (own_positions < stop) & ((own_positions - start) % step == 0)
    if isinstance(positions, tuple):
        return np.isin(own_positions, positions)
    return (
        np.broadcast_to(generated, own_positions.shape)
        if positions == "generated"
        else np.ones(own_positions.shape, dtype=bool)
    )


def check_positions(positions: Positions) -> str | slice | tuple[int, ...] | None:
    """The same positions, a list as a tuple.

    Raises:
        UserError: no positions, or counted from the end.
    """
    if positions is None or positions in ("all", "generated"):
        return positions
    if isinstance(positions, slice):
        low = min((bound for bound in (positions.start, positions.stop) if bound is not None), default=0)
        empty = positions.stop is not None and positions.stop <= (positions.start or 0)
        if low < 0 or empty or (positions.step or 1) < 1:
            raise UserError(
                f"positions {positions}", expected="a span of at least one position, counted from the front"
            )
        return positions
    if isinstance(positions, str):
        raise UserError(
            f"positions '{positions}'", expected="'all', 'generated', a slice or a list of positions"
        )
    listed = tuple(int(position) for position in positions)
    if not listed or min(listed) < 0:
        raise UserError(f"positions {list(listed)}", expected="at least one position, counted from the front")
    return listed
