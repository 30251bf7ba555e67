"""The page of the command line, made from the table of commands."""

import re

from emocircuits.cli.help import sentence
from emocircuits.cli.table import TABLE
from emocircuits.cli.verb import Argument, Noun, Verb

HEAD = """# Command line

Made from the table of commands: what stands here is what `emocircuits COMMAND --help` says. First comes what
a command acts on, then its options; lists have commas between. A switch `--x` has its off form `--no-x`.
Results go to stdout, progress and errors (one line each) to stderr. Exit codes: 0 done, 2 a mistake in the
input, 1 a failure, 130 Ctrl-C.
"""


def command_line_page() -> str:
    """Markdown with a part per group and a section per verb."""
    parts = [HEAD]
    for group in TABLE:
        parts.append(f"## {sentence(group.name)[:-1]}: {group.summary}\n")
        for entry in group.entries:
            parts += [section(verb) for verb in (entry.verbs if isinstance(entry, Noun) else (entry,))]
    return "\n".join(parts)


def section(verb: Verb) -> str:
    """One command: what it does, its form, its arguments, examples."""
    rows = [f"| `{form(item)}` | {cell(item.explained)} |" for item in verb.arguments]
    examples = "\n".join(f"$ {line}" for line in verb.examples)
    about = cell(f"{sentence(verb.summary)} {verb.note}".strip())
    table = "\n".join(["| argument | |", "| --- | --- |", *rows])
    return f"### {verb.name}\n\n{about}\n\n```console\n{examples}\n```\n\n{table}\n"


def form(item: Argument) -> str:
    """How an argument is written, inside a table."""
    return item.shown.replace("|", "\\|")


def cell(text: str) -> str:
    """Text inside a Markdown table: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|$])", r"\\\1", " ".join(text.split()))
