"""JSON documents with a schema name and version, and CSV tables; written atomically, never with NaN."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from emocircuits.errors import UserError
from emocircuits.io.atomic import atomic_path, write_text


def write_json(path: str | Path, value: Any, *, schema: str | None = None, version: int | None = None) -> None:
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
        raise UserError(f"{path} does not exist", expected=f"a JSON document{f' of schema {schema}' if schema else ''}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error})", cure="delete it and run the stage again") from error
    if schema is not None:
        found = value.get("schema") if isinstance(value, dict) else None
        if found != schema:
            raise UserError(f"{path} has the schema '{found}'", expected=f"'{schema}'")
        if int(value.get("schema_version", 0)) > int(version or 0):
            raise UserError(f"{path} has version {value['schema_version']} of {schema}", expected=f"at most {version}",
                            cure="update emocircuits")
    return value


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV (floats with 9 significant digits, which is enough to restore float32)."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
