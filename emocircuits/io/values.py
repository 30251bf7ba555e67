"""Values of plain Python, NumPy and pandas, and frozen dataclasses of them, in one file, read back equal.

The file is a NumPy archive: arrays as they are, and a JSON text that says how they belong together. Nothing
in it is code: classes are those that the reader names.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.io.atomic import atomic_path

TEXT = "structure"
PLAIN = (str, bool, int, float, type(None))


def write_values(path: str | Path, value: Any) -> None:
    """Writes a value atomically.

    Raises:
        TypeError: it holds something else than numbers, texts, lists, dictionaries, arrays, tables, and
            dataclasses of these.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_encoded(value, arrays)).encode()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **{TEXT: np.frombuffer(text, dtype=np.uint8)}, **arrays)


def read_values(path: str | Path, classes: Collection[type] = ()) -> Any:
    """Reads what `write_values` wrote; `classes` are the dataclasses in it."""
    with np.load(path, allow_pickle=False) as archive:
        structure = json.loads(archive[TEXT].tobytes())
        return _decoded(structure, archive.__getitem__, {one.__name__: one for one in classes})


def _encoded(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        value = np.asarray(value)
        return {"scalar": _stored(value, arrays)}
    if type(value) in PLAIN:
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {"array": _stored(value, arrays)}
    if isinstance(value, pd.DataFrame):
        columns = [
            [str(name), str(column.dtype), _encoded(_cells(column), arrays)] for name, column in value.items()
        ]
        return {"table": columns, "index": _encoded(_cells(value.index), arrays)}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encoded(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encoded(key, arrays), _encoded(item, arrays)] for key, item in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {item.name: _encoded(getattr(value, item.name), arrays) for item in fields(value)}
        return {"record": type(value).__name__, "fields": parts}
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def _cells(column: pd.Series | pd.Index) -> Any:
    values = column.to_numpy()
    return values if values.dtype != object else list(values)


def _stored(array: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    name = f"array-{len(arrays)}"
    arrays[name] = array
    return name


def _decoded(value: Any, array: Callable[[str], np.ndarray], classes: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = next(iter(value))
    inner = value[kind]
    if kind == "scalar":
        return array(inner)[()]
    if kind == "array":
        return array(inner)
    if kind == "table":
        columns = {
            name: pd.Series(_decoded(cells, array, classes), dtype=dtype) for name, dtype, cells in inner
        }
        table, index = pd.DataFrame(columns), _decoded(value["index"], array, classes)
        return table if np.array_equal(index, table.index) else table.set_axis(index)
    if kind == "record":
        parts = {name: _decoded(item, array, classes) for name, item in value["fields"].items()}
        return classes[inner](**parts)
    if kind == "dict":
        return {_decoded(key, array, classes): _decoded(item, array, classes) for key, item in inner}
    items = [_decoded(item, array, classes) for item in inner]
    return tuple(items) if kind == "tuple" else items
