"""A named collection of interchangeable cards: adding one is one file and one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar, runtime_checkable

from emocircuits.errors import unknown


@runtime_checkable
class Card(Protocol):
    """What every member of a registry says about itself."""

    @property
    def name(self) -> str:
        """Its name in the registry."""

    @property
    def summary(self) -> str:
        """What it is, in one line."""


T = TypeVar("T", bound=Card)


class Registry(Generic[T]):
    """Cards of one kind by name, in the order in which they were added.

    An unknown name lists the known ones; a second card of one name is refused. The package that owns a
    registry imports its members, so nobody else imports a module to fill it.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._cards: dict[str, T] = {}

    def add(self, card: T) -> T:
        """Adds a card under its own name and returns it."""
        if card.name in self._cards:
            raise ValueError(f"{self.kind} '{card.name}' is added twice")
        if not card.summary or "\n" in card.summary:
            raise ValueError(f"{self.kind} '{card.name}' needs a summary of one line")
        self._cards[card.name] = card
        return card

    def get(self, name: str) -> T:
        """The card of that name.

        Raises:
            UserError: no such card; the message lists the known names and the nearest.
        """
        if name not in self._cards:
            raise unknown(self.kind, name, self._cards)
        return self._cards[name]

    def names(self) -> tuple[str, ...]:
        """All names, in the order in which the cards were added."""
        return tuple(self._cards)

    @contextmanager
    def temporarily(self, *cards: T) -> Iterator[None]:
        """Holds `cards`, in place of those of the same name, and forgets when the block ends what was added
        in it.
        """
        before = dict(self._cards)
        for card in cards:
            self._cards.pop(card.name, None)
            self.add(card)
        try:
            yield
        finally:
            self._cards = before

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._cards.values()))

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, name: object) -> bool:
        return name in self._cards
