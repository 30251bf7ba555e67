"""What may go into a file: plain values, one type per attribute, no character that a format forbids."""

import json
import math
import re
from typing import Any

import networkx as nx
import numpy as np

from emocircuits.errors import UserError

# XML 1.0 allows tab, newline, return and everything from U+0020 on but surrogates and U+FFFE/FFFF.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def sanitise_text(text: str) -> str:
    """Text with every character that XML 1.0 forbids replaced by U+FFFD; line ends become newlines, as XML
    reads them.
    """
    return _FORBIDDEN.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")


def sanitise(value: Any) -> str | int | float | bool | None:
    """A value that every format can hold: numpy becomes Python, lists and dicts become compact JSON text.

    Raises:
        UserError: NaN or infinity, or a type that no format holds.
    """
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise UserError(f"a graph attribute is {value}", expected="a finite number, or None")
        return float(value)
    if isinstance(value, str):
        return sanitise_text(value)
    if isinstance(value, (list, tuple, dict, np.ndarray)):
        value = value.tolist() if isinstance(value, np.ndarray) else value
        return json.dumps(_nested(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    raise UserError(
        f"a graph attribute is a {type(value).__name__}", expected="text, a number, a list or a dict"
    )


def sanitise_json(value: Any, what: str) -> Any:
    """A value as plain JSON types: numpy becomes Python, lone surrogates become U+FFFD.

    Args:
        value: what goes into a document.
        what: its name in errors.

    Raises:
        UserError: NaN, infinity, or a type JSON has no form for.
    """
    if value is None or (type(value) is str and value.isascii()):  # most of a circuit's details
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        return str(value).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return finite(value, what)
    if isinstance(value, np.ndarray):
        return sanitise_json(value.tolist(), what)
    if isinstance(value, dict):
        return {sanitise_json(str(key), what): sanitise_json(item, what) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sanitise_json(item, what) for item in value]
    raise UserError(f"{what} holds a {type(value).__name__}", expected="text, numbers, lists or dicts")


def finite(value: Any, what: str) -> float | None:
    """A number as a float, or None where there is none.

    Raises:
        UserError: NaN or infinity.
    """
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise UserError(f"{what} is {number}", expected="a finite number, or None where nothing was measured")
    return number


def sanitise_graph(graph: nx.Graph) -> nx.DiGraph:
    """A copy with plain values only: None dropped, and each attribute of one type across all nodes (and all
    links).

    An attribute that is whole here and broken there becomes a float everywhere, any other mixture becomes
    text: GEXF and GraphML declare one type per attribute and cannot be read back otherwise.
    """
    copy = nx.DiGraph(**_kept(graph.graph))
    copy.add_nodes_from((sanitise_text(str(name)), _kept(data)) for name, data in graph.nodes(data=True))
    copy.add_edges_from(
        (sanitise_text(str(a)), sanitise_text(str(b)), _kept(data)) for a, b, data in graph.edges(data=True)
    )
    if len(copy) != len(graph):
        raise UserError("two node ids differ only in characters that XML forbids")
    _one_type([data for _, data in copy.nodes(data=True)])
    _one_type([data for *_, data in copy.edges(data=True)])
    return copy


def _nested(value: Any) -> Any:
    if isinstance(value, dict):
        return {sanitise_text(str(key)): _nested(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_nested(item) for item in value]
    return sanitise(value)


def _kept(data: dict[str, Any]) -> dict[str, Any]:
    values = {sanitise_text(str(key)): sanitise(value) for key, value in data.items()}
    return {key: value for key, value in values.items() if value is not None}


def _one_type(rows: list[dict[str, Any]]) -> None:
    types: dict[str, set[type]] = {}
    for row in rows:
        for key, value in row.items():
            types.setdefault(key, set()).add(type(value))
    for key, kinds in types.items():
        if len(kinds) > 1:
            cast = float if kinds == {int, float} else str
            for row in rows:
                if key in row:
                    row[key] = cast(row[key])
