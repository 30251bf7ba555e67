"""HTML pieces of the report: text is always escaped, numbers are printed short and sorted by their full
value.
"""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.sanitise import plain_text


def esc(text: Any) -> str:
    """Text for HTML content and attributes."""
    return html.escape(plain_text(str(text)), quote=True)


def number(value: Any, *, digits: int = 3, sign: bool = False) -> str:
    """A short number with a real minus sign; a dash where there is none."""
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        text = f"{abs(int(value)):,}".replace(",", "\u2009")
    else:
        size = abs(float(value))
        text = (
            "0"
            if size == 0
            else f"{size:.1e}"
            if size < 10**-digits or size >= 1e6
            else f"{size:.{digits}g}"
            if size < 1000
            else f"{size:.0f}"
        )
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def interval(low: Any, high: Any) -> str:
    """An interval in brackets."""
    return f"[{number(low)}, {number(high)}]"


def cell(value: Any) -> str:
    """One table cell; numbers are right-aligned and carry their full value for sorting."""
    if isinstance(value, Cell):
        return f'<td class="{"num" if value.sort is not None else ""}" data-sort="{esc(value.sort if value.sort is not None else value.text)}">{value.html}</td>'
    if (
        value is None
        or isinstance(value, (int, float, np.integer, np.floating))
        and not isinstance(value, bool)
    ):
        raw = (
            ""
            if value is None or not math.isfinite(value)
            else repr(value.item() if hasattr(value, "item") else value)
        )
        return f'<td class="num" data-sort="{raw}" title="{raw}">{number(value)}</td>'
    if isinstance(value, (bool, np.bool_)):
        return f'<td data-sort="{int(value)}">{number(value)}</td>'
    return f'<td data-sort="{esc(value)}">{esc(value)}</td>'


class Cell:
    """A cell with its own (already safe) markup.

    Args:
        markup: HTML.
        sort: number to sort by, or None for a text cell.
    """

    def __init__(self, markup: str, sort: float | None = None):
        self.html, self.sort, self.text = markup, sort, markup


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, tall: bool = False, caption: str = ""
) -> str:
    """A sortable table; `tall` ones scroll. The first column names the row."""
    rows = [list(row) for row in rows]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(heads))]
    head = "".join(
        f'<th scope="col" class="{"num" if numeric[i] else ""}"><button type="button">{esc(name)}</button></th>'
        for i, name in enumerate(heads)
    )
    body = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    note = f"<caption>{esc(caption)}</caption>" if caption else ""
    empty = f'<tr><td colspan="{len(heads)}" class="none">nothing</td></tr>' if not rows else ""
    return (
        f'<div class="scroll{" tall" if tall and len(rows) > 12 else ""}" tabindex="0"><table class="data">{note}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}{empty}</tbody></table></div>"
    )


def frame(data: pd.DataFrame, heads: dict[str, str] | None = None, **options: Any) -> str:
    """A DataFrame as a sortable table."""
    names = heads or {name: name for name in data.columns}
    rows = [
        [None if pd.isna(value) else value for value in row]
        for row in data[list(names)].astype(object).itertuples(index=False)
    ]
    return table(list(names.values()), rows, **options)


def facts(items: Iterable[tuple[str, Any]]) -> str:
    """A list of names and values."""
    return (
        '<dl class="facts">'
        + "".join(
            f"<div><dt>{esc(name)}</dt><dd>{value.html if isinstance(value, Cell) else _fact(value)}</dd></div>"
            for name, value in items
            if value is not None
        )
        + "</dl>"
    )


def _fact(value: Any) -> str:
    return (
        number(value)
        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        else esc(value)
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, Cell):
        return value.sort is not None
    return value is None or (
        isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
    )
