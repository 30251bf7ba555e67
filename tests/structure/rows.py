"""The rows of the library, from the ground up, and what `docs/architecture.md` shows of them.

A module imports only from lower rows; siblings of a row do not import each other (row 0: they may). After a
change here or of a room's first docstring line,

    python tests/structure/rows.py

writes the page's part again.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "emocircuits"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rows: begin (written by tests/structure/rows.py) -->\n", "<!-- rows: end -->\n"

ROWS = (
    (
        "errors",
        "settings",
        "lazy",
        "registry",
        "names",
        "provenance",
        "numerics",
        "ranks",
        "threads",
        "allocator",
        "progress",
        "keep",
        "sanitise",
        "limits",
    ),
    ("io",),
    ("artifacts",),
    ("models", "sae", "organism", "viewer"),
    ("passes", "figures"),
    ("interventions", "behaviours", "export"),
    ("activations", "directions", "matching", "graphs"),
    ("attribution",),
    ("circuits", "experiments"),
    ("runs",),
    ("studies",),
    ("report",),
    ("stages",),
    ("cli",),
)


def path_of(room: str) -> Path:
    """The file that says what a room holds: a folder's `__init__.py` or the module itself."""
    folder = PACKAGE / room
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def holds(room: str) -> str:
    """The first paragraph of a room's docstring."""
    text = ast.get_docstring(ast.parse(path_of(room).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def picture() -> str:
    """The rows as they stand on each other, the highest first."""
    lines = [f"{row:2}  {'  '.join(rooms)}" for row, rooms in enumerate(ROWS)]
    return "\n".join(["```text", *reversed(lines), "```"])


def table() -> str:
    """What each room holds, where it is and in which row it stands."""
    lines = ["| row | where | what |", "| --- | --- | --- |"]
    for row, rooms in enumerate(ROWS):
        for room in rooms:
            where = f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"
            lines.append(f"| {row} | `{where}` | {holds(room)} |")
    return "\n".join(lines)


def page_part() -> str:
    """What stands between the page's two marks."""
    return f"{picture()}\n\n{table()}\n"


def written(page: str) -> str:
    """The page with its part written again."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + page_part() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
