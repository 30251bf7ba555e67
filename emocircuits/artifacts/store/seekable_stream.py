"""Endless shuffled batches of several sites in lockstep, where a batch is a pure function of (seed, step).

A stream is cut into epochs, an epoch into windows; one window of rows is held at a time. What a window is and
how its rows come about is a subclass' affair: rows of a store (`ActivationStream`), or of a model at work
(`LiveStream`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from emocircuits.errors import UserError

WINDOW = 32_768


class SeekableStream(ABC):
    """Assembles batches from windows.

    Args:
        sites: whose rows; one SAE each.
        d_model: width of a row.
        n_rows: rows of an epoch.
        batch_size: rows per batch; a batch may cross from one epoch into the next.
        seed: seed of the order.
        window: about how many rows are held and shuffled together.

    Raises:
        UserError: no rows, or a batch size or window below 1.
    """

    def __init__(
        self, sites: Sequence[str], d_model: int, n_rows: int, batch_size: int, seed: int, window: int
    ):
        if batch_size < 1 or window < 1:
            raise UserError(
                f"a stream with batch_size {batch_size} and window {window}", expected="at least 1 each"
            )
        if n_rows == 0:
            raise UserError(
                f"no rows to draw from at {', '.join(sites)}",
                expected="at least one row",
                cure="collect more prompts or widen the row filter",
            )
        self.sites, self.d_model, self.n_rows = tuple(sites), d_model, n_rows
        self.batch_size, self.seed, self.window = batch_size, seed, window
        self._key: tuple[int, int] | None = None
        self._held: dict[str, np.ndarray] = {}
        self._places = np.zeros(0, dtype=np.int64)

    def batch(self, step: int) -> dict[str, Float[np.ndarray, "batch d_model"]]:
        """The batch of one step, float32, per site. Going on costs nothing extra; a jump fills one window.

        Raises:
            UserError: a step below 0.
        """
        if step < 0:
            raise UserError(f"step {step} of a stream", expected="0 or more")
        batch = {site: np.empty((self.batch_size, self.d_model), dtype=np.float32) for site in self.sites}
        for epoch, number, begin, end, place in self._pieces(step):
            if self._key != (epoch, number):
                self._key = None
                self._held.clear()  # never two windows at once
                self._held, self._places = self._load(epoch, number)
                self._key = (epoch, number)
            for site, out in batch.items():
                _draw(self._held[site], self._places[begin:end], out[place : place + end - begin])
        return batch

    def batches(self, start_step: int = 0) -> Iterator[dict[str, Float[np.ndarray, "batch d_model"]]]:
        """The batches from a step on, without end."""
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def _pieces(self, step: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(epoch, window, begin and end in the window, place in the batch) of what a batch is made of."""
        first, stop, place = step * self.batch_size, (step + 1) * self.batch_size, 0
        while first < stop:
            epoch, offset = divmod(first, self.n_rows)
            number, start, end = self._window_at(epoch, offset)
            begin, end = offset - start, min(end - start, offset - start + stop - first)
            yield epoch, number, begin, end, place
            first, place = first + end - begin, place + end - begin

    @abstractmethod
    def _window_at(self, epoch: int, offset: int) -> tuple[int, int, int]:
        """The window with the epoch's draw `offset`: its number, first draw and end."""

    @abstractmethod
    def _load(
        self, epoch: int, number: int
    ) -> tuple[dict[str, Shaped[np.ndarray, "held d_model"]], Int[np.ndarray, "held"]]:
        """A window's rows per site (float32 or bfloat16 bit patterns), and which of them each draw is."""


def _draw(held: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """Copies rows into `out` as float32, few at a time, so that they stay in the processor's cache between
    the passes.
    """
    if held.dtype != np.uint16:
        np.take(held, places, axis=0, out=out, mode="clip")
        return
    size = max(1, (1 << 16) // held.shape[1] // 2)
    drawn, wide = np.empty((size, held.shape[1]), dtype=np.uint16), out.view(np.uint32)
    for first in range(0, len(places), size):
        some = places[first : first + size]
        np.take(held, some, axis=0, out=drawn[: len(some)], mode="clip")
        part = wide[first : first + size]
        part[...] = drawn[: len(some)]
        part <<= 16
