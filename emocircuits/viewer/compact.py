"""How values stand on a page: every text once, columns instead of records, four significant digits."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emocircuits.artifacts.circuit import Edge, Node


@dataclass
class Texts:
    """Every text once; what is stored is its number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str) -> int:
        """The number of a text."""
        return self.numbers.setdefault(text, len(self.numbers))


def short(value: float | int | None, digits: int = 4) -> float | int | None:
    """A number with that many significant digits; whole ones without a decimal point."""
    if value is None:
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded


def number_columns(
    items: Sequence[Node] | Sequence[Edge], names: dict[str, str]
) -> dict[str, list[float | int | None]]:
    """Attributes of nodes or links as columns, under the names of the page; empty ones are left out."""
    columns = {name: [short(getattr(item, attribute)) for item in items] for name, attribute in names.items()}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}
