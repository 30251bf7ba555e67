"""Keeping finished parts of long work: what a library function calls for each of its parts.

Left alone, a part is simply made. A run gives a `PartKeeper` of its own, which writes every part down and
reads it back when the work was cut off (`emocircuits.runs.parts`).
"""

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class PartKeeper(Protocol):
    """Makes a part, or takes the one that was made before.

    Args:
        name: of the part, among all of this work.
        make: makes it.
        classes: the frozen dataclasses that it is made of; or its one class with `save` and `load`.
    """

    def __call__(self, name: str, make: Callable[[], T], *classes: type) -> T:
        """The part."""
        ...


def always_make(name: str, make: Callable[[], T], *classes: type) -> T:
    """The `PartKeeper` that keeps nothing."""
    return make()
