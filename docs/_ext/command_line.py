"""The page of the command line, made from the parser itself."""

import argparse
import re

HEAD = """# Command line

Made from the parser: what stands here is what `emocircuits COMMAND --help` says. Results go to stdout,
progress and errors (one line each) to stderr. Exit codes: 0 done, 2 a mistake in the input, 1 a failure,
130 Ctrl-C.
"""
GROUPS = (
    ("A whole run", ("run", "view", "doctor")),
    ("The stages of a run", None),
    ("On a finished run, and beside it", ()),
)


def command_line_page(parser: argparse.ArgumentParser) -> str:
    """Markdown with a section per command."""
    from emocircuits.cli.run import STAGE_NAMES

    commands = subcommands(parser)
    first, stages = GROUPS[0][1], STAGE_NAMES
    rest = [name for name in commands if name not in first and name not in stages]
    parts = [HEAD]
    for (title, _), names in zip(GROUPS, (first, stages, rest), strict=True):
        parts.append(f"## {title}\n")
        parts += [section(name, *commands[name]) for name in names]
    return "\n".join(parts)


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Name -> (parser, what it does in one line); nested commands under their full name."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, one in action.choices.items():
                inner = subcommands(one)
                found |= {f"{name} {key}": value for key, value in inner.items()} or {
                    name: (one, helps.get(name, ""))
                }
    return found


def section(name: str, parser: argparse.ArgumentParser, does: str) -> str:
    """One command: what it does, its form, its arguments, examples."""
    spoken = re.search(r"\(also: (.*)\)", does)
    title = spoken.group(1) if spoken else name
    does = re.sub(r"\s*\(also: .*\)", "", does)
    arguments = [action for action in parser._actions if action.dest != "help"]
    rows = [f"| `{form(action)}` | {cell(describe(action, parser))} |" for action in arguments]
    table = "\n".join(["| argument | |", "| --- | --- |", *rows]) if rows else "No arguments."
    examples = re.sub(r"^examples?:\s*", "", (parser.epilog or "").strip())
    shown = "\n".join(line.strip() for line in examples.splitlines())
    sample = (
        f"\n```console\n$ {shown.replace(chr(10), chr(10) + '$ ')}\n```\n"
        if shown.startswith("emocircuits")
        else ""
    )
    return f"### emocircuits {title}\n\n{sentence(parser.description or does)}\n{sample}\n{table}\n"


def form(action: argparse.Action) -> str:
    """How an argument is written."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    value = (
        ""
        if action.nargs == 0
        else f" {action.metavar or '|'.join(map(str, action.choices or (action.dest.upper(),)))}"
    )
    return f"{' / '.join(action.option_strings)}{value}".replace("|", "\\|")


def describe(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Its help, with whether it must be given."""
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    if not text and action.default not in (None, argparse.SUPPRESS):
        text = f"default: {action.default}"
    must = action.required and bool(action.option_strings)
    return f"{text} (required)" if must else text


def cell(text: str) -> str:
    """Text inside a Markdown table: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|$])", r"\\\1", " ".join(text.split()))


def sentence(text: str) -> str:
    """Begins with a capital, ends with a full stop."""
    text = " ".join(text.split())
    return cell(text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else "."))
