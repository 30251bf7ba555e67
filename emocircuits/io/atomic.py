"""Atomic writing: a file is whole or it is not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emocircuits.errors import Failure


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to disk and renamed, on an error
    removed.

    Raises:
        Failure: the disk is full or not writable; nothing is left behind.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise write_failure(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_failure(path: str | Path, error: OSError) -> Failure:
    """The error for a path that cannot be written."""
    reason = error.strerror or str(error)
    return Failure(
        f"cannot write {path}: {reason}",
        cure="free some space or choose another --out; finished work is kept",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
