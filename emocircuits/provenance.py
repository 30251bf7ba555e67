"""Where a number came from: content hashes, the version of the code, and the settings."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path(__file__).parent


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON text of a plain value (sorted keys, no NaN)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_array(array: np.ndarray) -> str:
    """Hex SHA-256 of an array's dtype, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return sha256_bytes(head + np.ascontiguousarray(array).tobytes())


@cache
def code_version() -> str:
    """Hash of the package's source files: a changed source makes finished work stale."""
    files = sorted(path for path in PACKAGE.rglob("*.py"))
    return sha256_json([[path.relative_to(PACKAGE).as_posix(), sha256_file(path)] for path in files])[:16]


@dataclass(frozen=True)
class Provenance:
    """What made an artifact.

    Attributes:
        command: the command or call.
        seed: its seed.
        inputs: name -> content hash of everything it read.
        settings: the settings that shaped it (plain values).
    """

    command: str = ""
    seed: int = 0
    inputs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or HDF5 attributes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Provenance":
        """The inverse of `to_dict`."""
        return cls(**value)
