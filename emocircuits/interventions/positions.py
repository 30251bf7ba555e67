"""Which positions of a batch an intervention touches, and how much: the same with padding and with a
key-value cache.

A position is the place of a token in its own prompt, so padding does not shift it. Padding itself is never
touched.

"generated" means the tokens that come after the prompt. The first of them is drawn from what the model makes
of the last token of the prompt, so a push on generated tokens acts on all new tokens but the first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from emocircuits.errors import UserError
from emocircuits.passes.hooks import told_before_passes

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

    A pass starts after the positions that the model's key-value cache holds (`counted`). Without a cache it
    is the prompt so far with one token more, or else a new prompt. Where the model does not say so, a pass
    over one column after an earlier pass is taken as the next position of a cached generation, and a pass
    over one column more than before as one without a cache.

    Attributes:
        seen: columns after the last pass.
        prompt: columns of the prompt that is written on; 0 before the first pass.
        held: positions in the cache before the pass; None where that is not known.
        grown: whether the pass is over the last one's tokens and one more; None where that is not known.
    """

    def __init__(self) -> None:
        self.seen = self.prompt = 0
        self.held: int | None = None
        self.grown: bool | None = None

    def start(self, columns: int) -> int:
        """The first column of a pass over so many."""
        start = self.held
        if start is None:
            start = self.seen if columns == 1 and self.seen else 0
        grown = columns == self.seen + 1 if self.grown is None else self.grown
        if start == 0 and not (grown and self.prompt):
            self.prompt = columns
        self.prompt = self.prompt or start
        self.seen = start + columns
        return start


@contextmanager
def counted(model: Any, counters: Sequence[Counter]) -> Iterator[None]:
    """Inside, counters know before every pass what the cache holds and whether its prompt is the last one's.

    Args:
        model: any TransformerLens object; of others than a bridge the counters know nothing.
        counters: those of the hooks that are set on it.
    """
    last: list[torch.Tensor] = []

    def note(held: int, tokens: Any) -> None:
        same = isinstance(tokens, torch.Tensor) and last and tokens.shape[:1] == last[0].shape[:1]
        grown = (
            bool(same) and tokens.shape[1] == last[0].shape[1] + 1 and torch.equal(tokens[:, :-1], last[0])
        )
        for counter in counters:
            counter.held, counter.grown = held, grown
        if held == 0 and isinstance(tokens, torch.Tensor):
            last[:] = [tokens]

    with told_before_passes(model, note):
        yield


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


def check_positions(positions: Any) -> str | slice | tuple[int, ...] | None:
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
    try:
        listed = tuple(int(position) for position in positions)
    except (TypeError, ValueError):
        raise UserError(
            f"positions {str(positions)[:80]}",
            expected="whole numbers, the same for every prompt: [3, 7], a slice, 'all' or 'generated'",
            cure="steer prompts with positions of their own one after another",
        ) from None
    if not listed or min(listed) < 0:
        raise UserError(f"positions {list(listed)}", expected="at least one position, counted from the front")
    return listed
