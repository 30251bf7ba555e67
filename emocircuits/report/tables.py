"""Tables and lists of the report: sortable, with the full value of every number in its cell."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.limits import PACK_FROM_CHARACTERS
from emocircuits.report.packed import packed_element
from emocircuits.report.text import esc, interval, number


class Cell:
    """A cell with its own (already safe) markup.

    Args:
        markup: HTML.
        sort: number to sort by, or None for a text cell.
    """

    def __init__(self, markup: str, sort: float | None = None):
        self.html, self.sort = markup, sort


def estimate(value: Any, low: Any, high: Any, *, strong: bool = False) -> Cell:
    """A number with its interval, where it has one."""
    main = f"<b>{number(value)}</b>" if strong else number(value)
    return Cell(f"{main} <small>{interval(low, high) if low is not None else ''}</small>", value)


def cell(value: Any) -> str:
    """One table cell; numbers are right-aligned and carry their full value, which also sorts them."""
    if isinstance(value, Cell):
        if value.sort is None:
            return f"<td>{value.html}</td>"
        return f'<td class="num" data-sort="{esc(value.sort)}">{value.html}</td>'
    if _is_number(value):
        raw = (
            "" if value is None or not math.isfinite(value) else repr(getattr(value, "item", lambda: value)())
        )
        return f'<td class="num" title="{raw}">{number(value)}</td>'
    if isinstance(value, (bool, np.bool_)):
        return f'<td data-sort="{int(value)}">{number(value)}</td>'
    return f"<td>{esc(value)}</td>"


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, tall: bool = False, caption: str = ""
) -> str:
    """A sortable table; `tall` ones scroll. The first column names the row."""
    rows = [list(row) for row in rows]
    head = "".join(
        f'<th scope="col" class="{"num" if rows and all(_is_number(row[i]) for row in rows) else ""}">'
        f'<button type="button">{esc(name)}</button></th>'
        for i, name in enumerate(heads)
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    note = f"<caption>{esc(caption)}</caption>" if caption else ""
    empty = "" if rows else f'<tr><td colspan="{len(heads)}" class="none">nothing</td></tr>'
    return (
        f'<div class="scroll{" tall" if tall and len(rows) > 12 else ""}" tabindex="0">'
        f'<table class="data">{note}<thead><tr>{head}</tr></thead><tbody>{body}{empty}</tbody></table></div>'
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
    inside = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{_fact(value)}</dd></div>"
        for name, value in items
        if value is not None
    )
    return f'<dl class="facts">{inside}</dl>'


def details(summary: str, inside: str, *, opened: bool = False) -> str:
    """A block that the reader opens; both texts are HTML already."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{inside}</details>"


def long_details(summary: str, inside: str, file: str) -> str:
    """A block that the reader opens; a long one is packed and names the run's file of the same content."""
    if len(inside) < PACK_FROM_CHARACTERS:
        return details(summary, inside)
    note = f"A browser that runs scripts shows the table here; it is <code>{esc(file)}</code> of the run."
    return details(summary, packed_element("unfolded", inside, note))


def named(data: Any, heads: dict[str, str]) -> dict[str, str]:
    """The headings of the columns that the table has."""
    return {name: text for name, text in heads.items() if name in data.columns}


def _fact(value: Any) -> str:
    if isinstance(value, Cell):
        return value.html
    return number(value) if _is_number(value) else esc(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, Cell):
        return value.sort is not None
    if isinstance(value, (bool, np.bool_)):
        return False
    return value is None or isinstance(value, (int, float, np.integer, np.floating))
