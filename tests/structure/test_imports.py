"""Imports go one way: a module imports only from lower rows, and siblings of a row do not import
each other.
"""

import ast
from pathlib import Path

from structure.rows import PACKAGE, PAGE, ROWS, holds, path_of, written

ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
BANNED_NAMES = {"utils", "helpers", "core", "misc"}
SHOWING = {"viewer", "figures", "export"}
SHOWING_SEES = {name for row in ROWS[:3] for name in row} | SHOWING


def modules():
    return sorted(
        path
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE or path.name not in ("__init__.py", "__main__.py")
    )


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Every `emocircuits.<part>` a file names in an import, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("emocircuits.")}
    return found - {"__version__"}


def test_imports_go_down_only():
    faults = []
    for path in modules():
        here = part_of(path)
        for part in imported_parts(path):
            if part == here:
                continue
            if part not in ROW_OF:
                faults.append(f"{path.relative_to(PACKAGE)} imports the unknown part {part}")
            elif ROW_OF[part] > ROW_OF[here] or (ROW_OF[part] == ROW_OF[here] and ROW_OF[here] > 0):
                faults.append(
                    f"{path.relative_to(PACKAGE)} (row {ROW_OF[here]}) imports {part} (row {ROW_OF[part]})"
                )
    assert not faults, "\n".join(faults)


def test_what_shows_results_needs_no_model():
    faults = {
        str(path.relative_to(PACKAGE)): imported_parts(path) - SHOWING_SEES
        for path in modules()
        if part_of(path) in SHOWING
    }
    assert not {path: parts for path, parts in faults.items() if parts}


def test_every_part_has_a_row_and_a_telling_name():
    for path in modules():
        assert part_of(path) in ROW_OF, path
        assert path.stem not in BANNED_NAMES, path


def test_every_room_is_there_and_says_what_it_holds():
    for room in ROW_OF:
        assert path_of(room).is_file(), room
        assert holds(room).endswith("."), room


def test_the_page_of_the_architecture_shows_these_rows():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "the page is out of date: python tests/structure/rows.py writes it"


LONG = {"attribution/methods/verified.py", "circuits/candidates.py", "report/parts.py"}  # to be divided


def test_files_stay_small():
    long = {
        str(path.relative_to(PACKAGE)): count
        for path in modules()
        if (count := len(path.read_text().splitlines())) > 400 and str(path.relative_to(PACKAGE)) not in LONG
    }
    assert not long


def test_no_unsafe_loading():
    for path in modules():
        text = path.read_text()
        assert "import pickle" not in text and "torch.load(" not in text, path
