"""Printing results: aligned columns and lines for people, JSON for scripts."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool, columns: Sequence[str] | None = None) -> int:
    """Prints rows to stdout and returns 0; `columns` names those that people see (all by default)."""
    if as_json:
        print(
            json.dumps(
                [{name: _plain(value) for name, value in row.items()} for row in rows], ensure_ascii=False
            )
        )
        return 0
    if not rows:
        print("nothing to show")
        return 0
    names = [
        name
        for name in (columns or dict.fromkeys(key for row in rows for key in row))
        if any(name in row for row in rows)
    ]
    cells = [list(names)] + [[_text(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def print_paths(paths: Sequence[Path], as_json: bool) -> int:
    """Prints the paths of written files, one a line, and returns 0."""
    print(json.dumps([str(path) for path in paths]) if as_json else "\n".join(map(str, paths)))
    return 0


def one_line(text: str) -> str:
    """Text for a terminal: no control characters, white space as single spaces."""
    words = "".join(character if character.isprintable() else " " for character in text).split()
    return " ".join(words) or "␣"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """What JSON can hold: NumPy's numbers as plain ones, numbers that are not finite as null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
