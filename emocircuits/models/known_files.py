"""What is known of large files from an earlier command, so that a model of gigabytes is not read again to
start.

A file is the one that was read as long as its size, its time of change and its inode are the same. The facts
lie in one small file of the cache; without it, or where the cache cannot be written, all is read again.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from emocircuits.errors import Failure
from emocircuits.io.atomic import write_text
from emocircuits.io.cache import cache_directory

MOST_FILES = 4096
SMALL_BYTES = 1 << 20  # read in less time than looking it up takes


def known_of(path: Path, fact: str, find: Callable[[Path], Any]) -> Any:
    """One fact of a file: kept from an earlier command, or found now.

    Args:
        path: the file.
        fact: its name.
        find: path -> the fact, a plain value; what it raises is raised and not kept.
    """
    state = path.stat()
    if state.st_size < SMALL_BYTES:
        return find(path)
    key = str(path.resolve())
    stamp = [state.st_size, state.st_mtime_ns, state.st_ino]
    facts = _read()
    entry = facts.get(key)
    if not isinstance(entry, dict) or entry.get("stamp") != stamp:
        entry = {"stamp": stamp}
    if fact not in entry:
        entry = {**entry, fact: find(path)}
        _write({**_read(), key: entry})
    return entry[fact]


def _file() -> Path:
    return cache_directory() / "files.json"


def _read() -> dict[str, Any]:
    try:
        facts = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _write(facts: dict[str, Any]) -> None:
    kept = dict(list(facts.items())[-MOST_FILES:])
    with suppress(Failure):  # a cache that cannot be written saves nothing
        write_text(_file(), json.dumps(kept))
