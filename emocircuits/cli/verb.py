"""What a command is: a verb, a noun with verbs, a group of both. The parser, every help text and the page of
the documentation are made from these.
"""

import keyword
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emocircuits.models.loading import Loading


@dataclass(frozen=True)
class Kind:
    """What the text of an argument becomes.

    Attributes:
        read: text to value; a `ValueError` says that the text is wrong.
        value: how its value is written in help texts.
        expected: what would have been right, in words.
    """

    read: Callable[[str], Any]
    value: str
    expected: str


def _parts(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(read(part.strip()) for part in text.split(",") if part.strip())


TEXT = Kind(str, "TEXT", "text")
PATH = Kind(Path, "FILE", "a path")
WHOLE = Kind(int, "N", "a whole number")
NUMBER = Kind(float, "X", "a number")
NAMES = Kind(_parts(str), "NAMES", "names with commas between")
WHOLES = Kind(
    lambda text: tuple(map(int, text.split(","))), "N,N", "whole numbers with commas between, e.g. 8,16,32"
)
NUMBERS = Kind(
    lambda text: tuple(map(float, text.split(","))), "X,X", "numbers with commas between, e.g. -0.1,0.1"
)
SWITCH = Kind(bool, "", "nothing")


@dataclass(frozen=True)
class Argument:
    """One argument of a verb.

    Attributes:
        name: `RUN` of what is acted on, `--seeds` of an option.
        meaning: one line.
        kind: what its text becomes.
        value: how its value is written in help texts.
        default: its value where it is not given.
        required: whether it must be given.
        many: whether it may be given several times.
        choices: what it may be, or () where its kind says all.
        was: how it was spelled before.
    """

    name: str
    meaning: str
    kind: Kind = TEXT
    value: str = ""
    default: Any = None
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    was: str = ""

    @property
    def is_option(self) -> bool:
        """Whether it is named on the command line."""
        return self.name.startswith("--")

    @property
    def field(self) -> str:
        """Its attribute of the parsed arguments."""
        name = self.name.lstrip("-").replace("-", "_").lower()
        return f"{name}_" if keyword.iskeyword(name) else name

    @property
    def shown(self) -> str:
        """How it is written: `RUN`, `STORE …`, `--seeds N`, `--no-open`."""
        if not self.is_option:
            return f"{self.name} …" if self.many else self.name
        if self.kind is SWITCH:
            return f"--no-{self.name[2:]}" if self.default else self.name
        return f"{self.name} {self.value or '|'.join(self.choices) or self.kind.value}"

    @property
    def explained(self) -> str:
        """Its meaning with its default, or that it may be given several times."""
        if self.many and self.is_option:
            return f"{self.meaning} (repeatable)"
        if self.default in (None, (), "") or self.kind is SWITCH:
            return f"{self.meaning} (required)" if self.required and self.is_option else self.meaning
        value = self.default
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        return f"{self.meaning} (default: {text})"


def given(name: str, meaning: str, kind: Kind = PATH, *, was: str = "", **further: Any) -> Argument:
    """What a verb acts on; must be given unless `required=False`."""
    return Argument(name, meaning, kind, was=was, **{"required": True, **further})


def option(name: str, meaning: str, kind: Kind = TEXT, default: Any = None, **further: Any) -> Argument:
    """A named value."""
    return Argument(name, meaning, kind, default=default, **further)


def switch(name: str, meaning: str, on: bool = False) -> Argument:
    """Something that is on or off: `--name` and `--no-name`; `meaning` says what giving it does."""
    return Argument(name, meaning, SWITCH, default=on)


RUN = given("RUN", "a run directory")
JSON = switch("--json", "print the result as JSON")
QUIET = switch("--quiet", "no progress on stderr")
TRUST = switch("--trust-remote-code", "let the model directory run its own code")
CHECKS = switch("--checks", "leave out the checks of the model at load time", on=True)
LOADING = (
    option("--device", "cpu, cuda, cuda:1, mps (default: the run's own)", value="DEVICE"),
    option("--dtype", "float32, bfloat16 or float64 (default: the run's own)", value="DTYPE"),
    CHECKS,
    TRUST,
)
SET = option(
    "--set", "change a recipe key (all keys: emocircuits recipe)", value="KEY=VALUE", default=(), many=True
)


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        name: as it is typed: `run`, `sae eval`.
        summary: what it does, in one line.
        call: does it; gets the parsed arguments, returns the exit code.
        arguments: what it acts on, then its options.
        examples: command lines.
        note: what else there is to know.
    """

    name: str
    summary: str
    call: Callable[[Namespace], int]
    arguments: tuple[Argument, ...]
    examples: tuple[str, ...]
    note: str = ""

    @property
    def usage(self) -> str:
        """How it is typed: `emocircuits sae eval RUN [options]`."""
        words = [
            item.shown if item.required else f"[{item.shown}]"
            for item in self.arguments
            if item.required or not item.is_option
        ]
        free = any(item.is_option and not item.required for item in self.arguments)
        return " ".join(["emocircuits", self.name, *words, *(["[options]"] if free else [])])


@dataclass(frozen=True)
class Noun:
    """A word with verbs of its own: `sae` has `sae eval`.

    Attributes:
        name: as it is typed.
        summary: what its verbs do, in one line.
        verbs: they.
    """

    name: str
    summary: str
    verbs: tuple[Verb, ...]


@dataclass(frozen=True)
class Group:
    """Commands of one purpose.

    Attributes:
        name: one word.
        summary: the purpose, in one line.
        entries: they.
    """

    name: str
    summary: str
    entries: tuple[Verb | Noun, ...]


def loading(arguments: Namespace) -> Loading:
    """How the command's model is loaded: what `LOADING` was given."""
    return Loading(arguments.device, arguments.dtype, arguments.checks, arguments.trust_remote_code)
