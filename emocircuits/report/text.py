"""Text and numbers as the report prints them: text is always escaped, numbers are short."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emocircuits.sanitise import sanitise_text


def esc(text: Any) -> str:
    """Text for HTML content and attributes."""
    return html.escape(sanitise_text(str(text)), quote=True)


def words(name: str) -> str:
    """A name as people read it."""
    return esc(name.replace("_", " "))


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def number(value: Any, *, digits: int = 3, sign: bool = False) -> str:
    """A short number with a real minus sign; a dash where there is none."""
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    before = "−" if value < 0 else "+" if sign and value > 0 else ""
    if isinstance(value, (int, np.integer)):
        return before + f"{abs(int(value)):,}".replace(",", "\u2009")
    return before + _decimal(abs(float(value)), digits)


def _decimal(size: float, digits: int) -> str:
    if size == 0:
        return "0"
    if size < 10**-digits or size >= 1e6:
        return f"{size:.1e}"
    return f"{size:.{digits}g}" if size < 1000 else f"{size:.0f}"


def interval(low: Any, high: Any) -> str:
    """An interval in brackets."""
    return f"[{number(low)}, {number(high)}]"


def shown(value: Any) -> str:
    """A setting of any type."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return number(value) if isinstance(value, float) else str(value)


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value); lists as text."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows += flat(value, f"{name}.")
        else:
            rows.append((name, shown(value) if isinstance(value, (list, tuple)) else value))
    return rows
