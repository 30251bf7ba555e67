"""Help texts, made from the table."""

import shutil
import textwrap
from collections.abc import Iterable

from emocircuits.cli.table import TABLE
from emocircuits.cli.verb import Noun, Verb

GAP = 2


def overview() -> str:
    """`emocircuits --help`: all commands in their groups."""
    lines = [
        "usage: emocircuits COMMAND …",
        "",
        "Traces emotion directions through SAE feature circuits to behaviour.",
    ]
    for group in TABLE:
        rows = [(entry.name, _short(entry)) for entry in group.entries]
        lines += ["", f"{group.name}: {group.summary}", *_columns(rows, 10)]
    return "\n".join([*lines, "", "emocircuits COMMAND --help says more. To begin: emocircuits run"])


def noun_help(noun: Noun) -> str:
    """`emocircuits sae --help`: the verbs of a noun."""
    rows = [(verb.name.removeprefix(f"{noun.name} "), verb.summary) for verb in noun.verbs]
    return "\n".join(
        [
            f"usage: emocircuits {noun.name} VERB …",
            "",
            sentence(noun.summary),
            "",
            *_columns(rows, max(len(name) for name, _ in rows)),
            "",
            *_examples(verb.examples[0] for verb in noun.verbs),
        ]
    )


def verb_help(verb: Verb) -> str:
    """`emocircuits sae eval --help`: what a verb does, its arguments, examples."""
    lines = [*_usage(verb.usage), "", *_wrapped(f"{sentence(verb.summary)} {verb.note}".strip())]
    width = min(22, max(len(item.shown) for item in verb.arguments))
    for title, options in (("", False), ("options", True)):
        rows = [(item.shown, item.explained) for item in verb.arguments if item.is_option is options]
        if rows:
            lines += ["", *([title] if title else []), *_columns(rows, width)]
    return "\n".join([*lines, "", *_examples(verb.examples)])


def sentence(text: str) -> str:
    """Begins with a capital, ends with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _short(entry: Verb | Noun) -> str:
    if isinstance(entry, Verb):
        return entry.summary
    return f"{entry.summary}: {', '.join(verb.name.split()[-1] for verb in entry.verbs)}"


def _columns(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    lines = []
    for name, text in rows:
        first, *more = _wrapped(text, 2 + width + GAP)
        if len(name) > width:
            lines += [f"  {name}", " " * (2 + width + GAP) + first]
        else:
            lines.append(f"  {name:<{width}}{' ' * GAP}{first}")
        lines += [" " * (2 + width + GAP) + line for line in more]
    return lines


def _wrapped(text: str, indent: int = 0) -> list[str]:
    columns = min(shutil.get_terminal_size((80, 24)).columns, 100)
    return textwrap.wrap(text, max(columns - indent, 30), break_on_hyphens=False) or [""]


def _usage(text: str) -> list[str]:
    first, *more = _wrapped(f"usage: {text}", 9)
    return [first, *(f"         {line}" for line in more)]


def _examples(examples: Iterable[str]) -> list[str]:
    lines = [f"  {line}" for line in examples]
    return ["examples" if len(lines) > 1 else "example", *lines]
