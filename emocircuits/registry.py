"""A named collection of interchangeable members: adding one is one file and one line."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from emocircuits.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to members of one kind; an unknown name lists the known ones, a second member of one name is
    refused.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._members: dict[str, T] = {}

    def register(self, name: str, member: T) -> T:
        """Adds `member` under `name` and returns it."""
        if name in self._members:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._members[name] = member
        return member

    def member(self, name: str) -> Callable[[T], T]:
        """Decorator form of `register`."""
        return lambda member: self.register(name, member)

    def get(self, name: str) -> T:
        """The member of that name.

        Raises:
            UserError: no such member; the message lists the known names and the nearest.
        """
        if name not in self._members:
            raise unknown(self.kind, name, self._members)
        return self._members[name]

    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(self._members)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(self._members.items())

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members
