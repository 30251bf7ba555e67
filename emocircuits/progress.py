"""Progress on stderr: bars in a terminal, now and then a line in a log file; silent when quiet, and on all
ranks of a job but the first.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from tqdm import tqdm

from emocircuits.ranks import launched

T = TypeVar("T")
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
SECONDS = 30.0  # between two lines in a log file


class Bar(Protocol):
    """What a progress bar can do."""

    def update(self, n: int = 1) -> object:
        """Moves the bar on by `n`."""

    def set_postfix_str(self, text: str) -> object:
        """Shows a short text after the bar."""


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """No bars and no messages inside this context when `on`."""
    token = _QUIET.set(on)
    try:
        yield
    finally:
        _QUIET.reset(token)


def track(iterable: Iterable[T], desc: str, total: int | None = None) -> Iterable[T]:
    """Iterates with a progress bar."""
    if _logged():
        return _tracked(
            iterable, desc, len(iterable) if total is None and hasattr(iterable, "__len__") else total
        )
    return tqdm(iterable, desc=desc, total=total, **_manners())


def _tracked(iterable: Iterable[T], desc: str, total: int | None) -> Iterator[T]:
    lines = _Lines(total, desc)
    for item in iterable:
        yield item
        lines.update()


@contextmanager
def bar(total: int | None, desc: str) -> Iterator[Bar]:
    """A progress bar to be moved by hand."""
    if _logged():
        yield _Lines(total, desc)
        return
    with tqdm(total=total, desc=desc, **_manners()) as shown:
        yield shown


def say(text: str) -> None:
    """One line on stderr, unless quiet."""
    if not _silent():
        tqdm.write(text, file=sys.stderr)


class _Lines:
    """Progress as lines: how far, how long it took, and how long it will take at this pace."""

    def __init__(self, total: int | None, desc: str) -> None:
        self.total, self.desc, self.done = total, desc, 0
        self.begun = self.said = time.monotonic()

    def update(self, n: int = 1) -> None:
        """See `Bar`."""
        self.done += n
        now = time.monotonic()
        if now - self.said < SECONDS or not self.done:
            return
        self.said, passed = now, now - self.begun
        text = f"{self.desc}: {self.done:,} after {_clock(passed)}"
        if self.total:
            left = passed * max(0, self.total - self.done) / self.done
            share = min(1.0, self.done / self.total)
            text = f"{self.desc}: {share:.0%} after {_clock(passed)}, about {_clock(left)} left"
        say(text)

    def set_postfix_str(self, text: str) -> None:
        """See `Bar`; a line has no room for it."""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _silent() -> bool:
    return _QUIET.get() or not launched().first


def _logged() -> bool:
    return not _silent() and not sys.stderr.isatty()


def _manners() -> dict:
    return {"file": sys.stderr, "disable": _silent(), "leave": False, "dynamic_ncols": True}
