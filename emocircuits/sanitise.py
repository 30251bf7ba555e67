"""One sanitiser for every graph format: plain values, one type per attribute, no character a format
forbids.
"""

import json
import math
import re
from typing import Any

import networkx as nx
import numpy as np

from emocircuits.errors import UserError

# XML 1.0 allows tab, newline, return and everything from U+0020 on but surrogates and U+FFFE/FFFF.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain_text(text: str) -> str:
    """Text with every character that XML 1.0 forbids replaced by U+FFFD; line ends become newlines, as XML
    reads them.
    """
    return _FORBIDDEN.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")


def plain(value: Any) -> str | int | float | bool | None:
    """A value that every format can hold: numpy becomes Python, lists and dicts become compact JSON text.

    Raises:
        UserError: NaN or infinity, or a type with no plain form.
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
        return plain_text(value)
    if isinstance(value, (list, tuple, dict, np.ndarray)):
        value = value.tolist() if isinstance(value, np.ndarray) else value
        return json.dumps(_nested(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    raise UserError(
        f"a graph attribute is a {type(value).__name__}", expected="text, a number, a list or a dict"
    )


def plain_graph(graph: nx.Graph) -> nx.DiGraph:
    """A copy with plain values only: None dropped, and each attribute of one type across all nodes (and all
    links).

    An attribute that is whole here and broken there becomes a float everywhere, any other mixture becomes
    text: GEXF and GraphML declare one type per attribute and cannot be read back otherwise.
    """
    copy = nx.DiGraph(**_kept(graph.graph))
    copy.add_nodes_from((plain_text(str(name)), _kept(data)) for name, data in graph.nodes(data=True))
    copy.add_edges_from(
        (plain_text(str(a)), plain_text(str(b)), _kept(data)) for a, b, data in graph.edges(data=True)
    )
    if len(copy) != len(graph):
        raise UserError("two node ids differ only in characters that XML forbids")
    _one_type([data for _, data in copy.nodes(data=True)])
    _one_type([data for *_, data in copy.edges(data=True)])
    return copy


def _nested(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain_text(str(key)): _nested(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_nested(item) for item in value]
    return plain(value)


def _kept(data: dict[str, Any]) -> dict[str, Any]:
    values = {plain_text(str(key)): plain(value) for key, value in data.items()}
    return {key: value for key, value in values.items() if value is not None}


def _one_type(rows: list[dict[str, Any]]) -> None:
    types: dict[str, set[type]] = {}
    for row in rows:
        for key, value in row.items():
            types.setdefault(key, set()).add(type(value))
    for key, found in types.items():
        if len(found) > 1:
            cast = float if found == {int, float} else str
            for row in rows:
                if key in row:
                    row[key] = cast(row[key])
