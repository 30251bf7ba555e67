"""JSON documents with a schema name and version, JSONL files, and CSV tables; written atomically, never with
NaN.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import pandas as pd

from emocircuits.errors import UserError
from emocircuits.io.atomic import atomic_path, write_text
from emocircuits.io.lines import lines_of


@runtime_checkable
class Named(Protocol):
    """What a line of a JSONL file becomes."""

    id: str


T = TypeVar("T", bound=Named)


def read_jsonl(
    path: str | Path, kind: str, things: str, make: Callable[[dict[str, Any], str, str], T]
) -> list[T]:
    """Reads a JSONL file, one JSON object a line with an id of its own; empty lines do not count.

    Args:
        path: the file.
        kind: what kind of file it is ("story"), for messages.
        things: what its lines are ("texts"), for messages.
        make: (object, where it stands, id where the object has none) -> what the line becomes.

    Raises:
        UserError: no such file, not UTF-8, no line, an id that occurs twice, or a line that is no JSON
            object; the message names the line. Whatever `make` raises.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{kind} file {path} does not exist", expected="a JSONL file, one object per line")
    try:
        lines = lines_of(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{kind} file {path} is not UTF-8 text") from error
    found: dict[str, T] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path.name} line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where} is not JSON: {error}", expected="one JSON object per line") from error
        if not isinstance(row, dict):
            raise UserError(f"{where} holds {type(row).__name__}", expected="a JSON object")
        made = make(row, where, f"{path.stem}/{number}")
        if made.id in found:
            raise UserError(f"{where}: id '{made.id}' occurs twice", expected="one id per line")
        found[made.id] = made
    if not found:
        raise UserError(f"{kind} file {path} holds no {things}", expected="at least one line")
    return list(found.values())


def write_json(
    path: str | Path, value: Any, *, schema: str | None = None, version: int | None = None
) -> None:
    """Writes a JSON document; with `schema` the object gets `schema` and `schema_version` in front."""
    if schema is not None:
        value = {"schema": schema, "schema_version": version, **value}
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path, *, schema: str | None = None, version: int | None = None) -> Any:
    """Reads a JSON document and checks its schema name and version.

    Raises:
        UserError: missing, not JSON, of another schema, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} does not exist", expected=f"a JSON document{f' of schema {schema}' if schema else ''}"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error})", cure="delete it and run the stage again") from error
    if schema is not None:
        found = value.get("schema") if isinstance(value, dict) else None
        if found != schema:
            raise UserError(f"{path} has the schema '{found}'", expected=f"'{schema}'")
        if int(value.get("schema_version", 0)) > int(version or 0):
            raise UserError(
                f"{path} has version {value['schema_version']} of {schema}",
                expected=f"at most {version}",
                cure="update emocircuits",
            )
    return value


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV (floats with 9 significant digits, which is enough to restore float32)."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
