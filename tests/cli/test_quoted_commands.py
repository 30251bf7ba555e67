"""Every `emocircuits …` command that the code, the documentation, the Makefile or a recipe quotes is one: it
parses against the table of commands.
"""

import ast
import re
import shlex
from pathlib import Path

import pytest

from emocircuits.cli.parse import find, parse
from emocircuits.cli.table import entries, verbs
from emocircuits.cli.verb import Noun
from emocircuits.errors import UserError
from emocircuits.stages import ORDER

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "howto").glob("*.md"),
    *(ROOT / "docs" / "notebooks").glob("*.*"),
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "docs/llms.txt")
        if (ROOT / name).is_file()
    ),
    *(ROOT / "saes").glob("*.toml"),
    *(ROOT / "analyses").rglob("*.toml"),
    *(ROOT / "analyses").rglob("*.py"),
    *(ROOT / "docs" / "examples").glob("*.py"),
]
CODE = [*(ROOT / "emocircuits").rglob("*.py")]
LINE = re.compile(
    r"^(?:\$ .* \| |\$ |# {1,3}|torchrun .* -m | +-m |\$\(BIN\)/|\.venv/bin/|\s*)emocircuits ([a-z-].*)$"
)
FIRST = "|".join([*entries(), *ORDER, *(verb.name.replace(" ", "-") for verb in verbs() if " " in verb.name)])
ANYWHERE = re.compile(rf"emocircuits ((?:{FIRST})(?![:\w-]| ·)(?: .*?)?)(?=`|, or |; | and |\)|\.?$)")
TICKS = re.compile(r"`(?:\$ )?emocircuits ([^`]+)`")


def of_page(text):
    """Commands of a page: lines of their own, and what stands between backticks."""
    for line in text.splitlines():
        if match := LINE.match(line.rstrip().removesuffix("\\")):
            yield match[1]
    yield from (match.replace("\n", " ") for match in TICKS.findall(text))


def of_code(path):
    """Commands in the strings of a module: in backticks or on a line of its own in docstrings, anywhere in
    all other strings.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in docs and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (match.replace("\n", " ") for match in TICKS.findall(node.value))
            yield from re.findall(r"^    (?:torchrun .* -m )?emocircuits (.*)", node.value, flags=re.M)
        elif isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docs | inner:
            yield from ANYWHERE.findall(as_text(node))


def as_text(node):
    """A string with `1` for what it fills in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join("1" if isinstance(part, ast.FormattedValue) else str(part.value) for part in node.values)


def check(command):
    """Raises where a command is none. One without options is a mention: those it needs may be missing."""
    words = shlex.split(re.split(r" #| > | 2>", command)[0])
    words = [word.split("|")[0] for word in words if word not in ("…", "[options]")]
    if words[0] in ("--help", "--version", "COMMAND") or words[-1] == "--help":
        assert len(words) == 1 or words[0] in {"COMMAND", *entries()}
        return
    verb, rest = find(words)
    if isinstance(verb, Noun) or not rest:
        return
    mention = not any(word.startswith("--") for word in rest)
    needed = [
        word for item in verb.arguments if item.required and item.is_option for word in (item.name, "1")
    ]
    parse(verb, [*rest, *(needed if mention else [])])


def failing(commands):
    wrong = []
    for where, command in commands:
        try:
            check(command)
        except UserError as error:
            wrong.append(f"{where}: emocircuits {command}: {error}")
    return wrong


def test_commands_of_pages_and_recipes_parse():
    commands = [
        (path.relative_to(ROOT), command)
        for path in PAGES
        for command in of_page(path.read_text(encoding="utf-8"))
    ]
    assert len(commands) > 70
    assert failing(commands) == []


def test_commands_of_the_makefile_parse():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"\$\(BIN\)/emocircuits (.*)", text)
    assert len(commands) == text.count("/emocircuits ") > 1
    assert failing([("Makefile", command) for command in commands]) == []


def test_commands_in_strings_of_the_code_parse():
    commands = [(path.relative_to(ROOT), command) for path in CODE for command in of_code(path)]
    assert len(commands) > 40
    assert failing(commands) == []


@pytest.mark.parametrize(
    "command",
    ["match runs/organism", "sae-eval runs/x", "sae sweep runs/x --expansion 4", "runn", "sae evaluate x"],
)
def test_an_old_or_wrong_command_would_be_seen(command):
    assert failing([("page", command)])
    assert (
        list(of_page(f"$ emocircuits {command}\n"))
        == list(of_page(f"see `emocircuits {command}`."))
        == [command]
    )
