"""Tables of the documentation have as many cells in every row as in their head; a bar inside a formula would
split one.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]


def uneven(text: str) -> list[tuple[int, str]]:
    """Number and text of table rows whose cells are not as many as their head's."""
    found, head, fenced = [], 0, False
    for number, line in enumerate(text.splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if fenced or not line.startswith("|"):
            head = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line.strip()))
        head = head or cells
        if cells != head:
            found.append((number, line))
    return found


def test_a_bar_in_a_formula_is_found():
    assert uneven("| a | b |\n| --- | --- |\n| `|x|` | c |\n") == [(3, "| `|x|` | c |")]
    assert uneven("| a |\n| --- |\n| `\\|x\\|` |\n\n| a | b |\n| --- | --- |\n") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rows_have_the_cells_of_their_head(page):
    assert uneven(page.read_text()) == []
