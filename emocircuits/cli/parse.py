"""From words to a verb and its arguments; every mistake is one line that names what is wrong and the cure."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from emocircuits.cli.table import entries, verbs
from emocircuits.cli.verb import SWITCH, Argument, Noun, Verb
from emocircuits.errors import UserError, nearest, unknown
from emocircuits.stages import ORDER

HELP = ("--help", "-h")
OPTION = re.compile(r"--?[a-z]")
OVERVIEW = "all commands: emocircuits --help"


def find(words: Sequence[str]) -> tuple[Verb | Noun, list[str]]:
    """The command that words begin with, and the words after it; a noun where nothing or a call for help
    follows it.

    Raises:
        UserError: an unknown command, with the nearest one, or the new spelling of an old one.
    """
    first, *rest = words
    entry = entries().get(first)
    if entry is None:
        raise _unknown_command(first, rest)
    if isinstance(entry, Verb) or not rest or rest[0] in HELP:
        return entry, rest
    for verb in entry.verbs:
        if verb.name == f"{first} {rest[0]}":
            return verb, rest[1:]
    raise _unknown_verb(entry, rest)


def parse(verb: Verb, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a verb.

    Raises:
        UserError: an option that it does not have, a value that is wrong, or something missing.
    """
    known = {name for item in verb.arguments for name in (item.name, f"--no-{item.name[2:]}")}
    for word in words:
        if OPTION.match(word) and word.partition("=")[0] not in known:
            raise _unknown_option(verb, word)
    arguments, extra = parser_of(verb).parse_known_args(list(words))
    if extra:
        raise UserError(
            f"{verb.name}: '{extra[0]}' is one word too many", expected=verb.usage, cure=_help_of(verb)
        )
    return arguments


def parser_of(verb: Verb) -> argparse.ArgumentParser:
    """A parser of one row of the table."""
    parser = _Parser(verb)
    for item in verb.arguments:
        if item.kind is SWITCH:
            parser.add_argument(
                item.name, action=argparse.BooleanOptionalAction, default=item.default, dest=item.field
            )
        elif item.is_option:
            parser.add_argument(
                item.name,
                type=_reader(item),
                required=item.required,
                dest=item.field,
                default=item.default,
                action=_Append if item.many else _Once,
            )
        else:
            parser.add_argument(
                item.field,
                type=_reader(item),
                default=item.default,
                nargs="+" if item.many else None if item.required else "?",
                metavar=item.name,
            )
    return parser


class _Append(argparse.Action):
    """Adds a value to those given before."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), values))


class _Once(argparse.Action):
    """Takes a value that must not be given again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        if self.dest in parser.seen:
            raise UserError(f"{option_string} is given twice", expected="one value, or a list with commas")
        parser.seen.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """argparse, whose mistakes are ours."""

    # argparse of Python before 3.14 takes -0.1,0.1 for an option
    NEGATIVE = re.compile(r"^-\.?\d")

    def __init__(self, verb: Verb):
        super().__init__(add_help=False, allow_abbrev=False)
        self.seen: set[str] = set()
        self.verb, self._negative_number_matcher = verb, self.NEGATIVE

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print."""
        missing = message.removeprefix("the following arguments are required: ")
        name = self.verb.name
        what = f"{name} needs {missing}" if missing != message else f"{name}: {message}"
        raise UserError(
            what.replace(": argument ", ": ", 1), expected=self.verb.usage, cure=_help_of(self.verb)
        )


def _reader(item: Argument) -> Any:
    def read(text: str) -> Any:
        if item.choices and text not in item.choices:
            raise unknown(item.name.lower() if not item.is_option else item.name, text, item.choices)
        try:
            return item.kind.read(text)
        except ValueError:
            raise UserError(f"{item.name} {text}", expected=item.kind.expected) from None

    return read


def _help_of(command: Verb | Noun) -> str:
    return f"emocircuits {command.name} --help"


def _unknown_option(verb: Verb, word: str) -> UserError:
    name = word.partition("=")[0]
    for item in verb.arguments:
        if item.was == name:
            return UserError(f"{verb.name}: {name} is now {item.shown}", expected=verb.usage)
    near = nearest(name, [item.name for item in verb.arguments if item.is_option])
    return UserError(
        f"{verb.name} has no option {name}",
        cure=f"did you mean {near}? {_help_of(verb)}" if near else _help_of(verb),
    )


def _unknown_command(word: str, rest: Sequence[str]) -> UserError:
    if word.startswith("-"):
        return UserError(
            f"'{word}' is no command", expected="a command first, then its options", cure=OVERVIEW
        )
    if word in ORDER:
        return _moved(word, f"stage {word}", rest)
    spaced = word.replace("-", " ", 1)
    if spaced in {verb.name for verb in verbs()}:
        return _moved(word, spaced, rest)
    for verb in verbs():
        if verb.name.endswith(f" {word}"):
            return UserError(f"unknown command '{word}'", cure=f"did you mean 'emocircuits {verb.name}'?")
    near = nearest(word, entries())
    return UserError(
        f"unknown command '{word}'", cure=f"did you mean '{near}'? {OVERVIEW}" if near else OVERVIEW
    )


def _unknown_verb(noun: Noun, rest: Sequence[str]) -> UserError:
    names = [verb.name.removeprefix(f"{noun.name} ") for verb in noun.verbs]
    near = nearest(rest[0], names)
    if noun.name in ORDER and (Path(rest[0]).exists() or "/" in rest[0]):
        return _moved(noun.name, f"stage {noun.name}", rest)
    return UserError(
        f"{noun.name} has no verb '{rest[0]}'",
        expected=", ".join(names),
        cure=f"did you mean '{near}'?" if near else _help_of(noun),
    )


def _moved(old: str, new: str, rest: Sequence[str]) -> UserError:
    return UserError(
        f"'{' '.join([old, *rest[:1]])}' is spelled differently now",
        cure=shlex.join(["emocircuits", *new.split(), *rest]),
    )
