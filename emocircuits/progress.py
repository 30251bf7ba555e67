"""Progress on stderr: silent when quiet, when nobody watches, and on all ranks of a job but the first."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from tqdm import tqdm

from emocircuits.ranks import launched

T = TypeVar("T")
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


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
    return tqdm(iterable, desc=desc, total=total, **_manners())


@contextmanager
def bar(total: int | None, desc: str) -> Iterator[Bar]:
    """A progress bar to be moved by hand."""
    with tqdm(total=total, desc=desc, **_manners()) as shown:
        yield shown


def say(text: str) -> None:
    """One line on stderr, unless quiet."""
    if not _QUIET.get() and launched().first:
        tqdm.write(text, file=sys.stderr)


def _manners() -> dict:
    hidden = _QUIET.get() or not sys.stderr.isatty() or not launched().first
    return {"file": sys.stderr, "disable": hidden, "leave": False, "dynamic_ncols": True}
