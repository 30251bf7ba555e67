"""Settings that say what they mean: each field of a settings class carries its meaning, unit and limits.

    @dataclass(frozen=True)
    class MatchSettings:
        permutations: int = setting(1000, "label permutations behind the p-values", least=1)

        def __post_init__(self) -> None:
            check(self, "match")

`check` refuses a wrong value with an error that names its dotted key; `keys` lists the keys of a class. What
only the rooms know, say which names are registered, is checked with `known` and `about`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin

from emocircuits.errors import UserError, unknown

ABOUT = "about"


@dataclass(frozen=True)
class About:
    """What a setting means and what it may be.

    Attributes:
        meaning: one line.
        unit: of its value, "" for none.
        least, most: the smallest and largest value that is allowed, or None.
        above: a value that it must exceed, or None.
        choices: the names that are allowed; of an `open` setting those that the package knows itself.
        open: further names may be registered, so that whoever uses the name checks it.
    """

    meaning: str
    unit: str = ""
    least: float | int | None = None
    most: float | int | None = None
    above: float | int | None = None
    choices: tuple[str, ...] = ()
    open: bool = False

    @property
    def allowed(self) -> str:
        """The values it may have, in words; "" where its type says all."""
        if self.choices:
            return " | ".join(name or '""' for name in self.choices) + (" | …" if self.open else "")
        parts = [
            f"> {self.above:g}" if self.above is not None else "",
            f"≥ {self.least:g}" if self.least is not None else "",
            f"≤ {self.most:g}" if self.most is not None else "",
        ]
        return ", ".join(part for part in parts if part)


def setting(default: Any, meaning: str, **limits: Any) -> Any:
    """A field of a settings class.

    Args:
        default: its default.
        meaning: what it is, in one line.
        limits: `unit`, `least`, `most`, `above`, `choices` and `open` as in `About`; limits of a
            list hold for its items.
    """
    return field(default=default, metadata={ABOUT: About(meaning, **limits)})


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        name: its dotted name.
        type: its type in words.
        default: its default.
        about: meaning, unit and limits.
    """

    name: str
    type: str
    default: Any
    about: About


def keys(settings: type, prefix: str = "") -> tuple[Key, ...]:
    """The keys of a settings class in their order; fields that are no `setting` are left out."""
    return tuple(
        Key(_dotted(prefix, item.name), type_words(item.type), item.default, item.metadata[ABOUT])
        for item in fields(settings)
        if ABOUT in item.metadata
    )


def check(settings: Any, prefix: str = "") -> None:
    """Refuses values of a wrong type or outside their limits.

    Args:
        settings: an instance of a settings class.
        prefix: the name of its section; errors name `<prefix>.<field>`.

    Raises:
        UserError: a wrong value; names the key, the value, and what was expected.
    """
    for item in fields(settings):
        if ABOUT in item.metadata:
            key, value = _dotted(prefix, item.name), getattr(settings, item.name)
            typed(key, value, item.type)
            for part in value if isinstance(value, tuple) else (value,):
                _check_limits(key, part, item.metadata[ABOUT])


def typed(key: str, value: Any, wanted: Any) -> Any:
    """The value as its type has it: whole numbers become fractions where those are wanted, lists tuples.

    Raises:
        UserError: it is of another type.
    """
    if get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{key} is {value!r}", expected="a list")
        return tuple(typed(key, part, get_args(wanted)[0]) for part in value)
    if isinstance(wanted, UnionType):
        return value if value is None else typed(key, value, get_args(wanted)[0])
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise UserError(f"{key} is {value!r}", expected=type_words(wanted))
    return value


def known(key: str, value: str, names: Iterable[str]) -> None:
    """Refuses a name that nothing answers to.

    Raises:
        UserError: names the key, the value, the nearest name and all of them.
    """
    names = tuple(names)
    if value not in names:
        raise unknown(key, value, names)


@contextmanager
def about(key: str) -> Iterator[None]:
    """Mistakes inside this context are those of a key, and named so."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error.what}", expected=error.expected, cure=error.cure) from error


def type_words(wanted: Any) -> str:
    """A type in words: `int`, `list of str`, `bool or nothing`."""
    if get_origin(wanted) is tuple:
        return f"list of {type_words(get_args(wanted)[0])}"
    if isinstance(wanted, UnionType):
        return f"{type_words(get_args(wanted)[0])} or nothing"
    return wanted.__name__


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _check_limits(key: str, value: Any, limits: About) -> None:
    if limits.choices and not limits.open:
        known(key, str(value), limits.choices)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise UserError(f"{key} is {value}", expected="a finite number")
    outside: Sequence[tuple[bool, str]] = (
        (limits.above is not None and not value > limits.above, _above_words(limits.above)),
        (limits.least is not None and value < limits.least, _least_words(limits.least)),
        (limits.most is not None and value > limits.most, f"at most {limits.most or 0:g}"),
    )
    for wrong, expected in outside:
        if wrong:
            raise UserError(f"{key} is {value}", expected=expected)


def _above_words(above: float | int | None) -> str:
    return "a positive number" if above == 0 else f"more than {above or 0:g}"


def _least_words(least: float | int | None) -> str:
    return "a number that is not negative" if least == 0 else f"at least {least or 0:g}"
