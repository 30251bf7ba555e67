"""Finished parts of a stage: a stage that was killed resumes after the last of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from emocircuits.io.atomic import write_text
from emocircuits.io.values import read_values, write_values
from emocircuits.progress import say
from emocircuits.ranks import barrier, ranks

T = TypeVar("T")
FOLDER, KEY = ".parts", "key"


class Parts:
    """The parts of one stage in a run directory, until the stage is done.

    What was kept under another key (other settings, inputs or code) is removed at the beginning. In a job of
    several ranks all of them ask for the same parts in the same order; the first writes.
    """

    def __init__(self, directory: Path, stage: str, key: str):
        self.folder = directory / FOLDER / stage
        if ranks().first:
            if not (self.folder / KEY).is_file() or (self.folder / KEY).read_text(encoding="utf-8") != key:
                shutil.rmtree(self.folder, ignore_errors=True)
                write_text(self.folder / KEY, key)
            kept = len(list(self.folder.iterdir())) - 1
            if kept:
                say(f"{stage:<10} resumes after {kept} finished part{'s' if kept > 1 else ''}")
        barrier()

    def __call__(self, name: str, make: Callable[[], T], *classes: type) -> T:
        """A part; see `emocircuits.keep.PartKeeper`."""
        path = self.folder / quote(name, safe="")
        barrier()  # all ranks see the same parts
        if path.is_file():
            return _read(path, classes)
        value = make()
        if ranks().first:
            if _is_artifact(classes):
                value.save(path)
            else:
                write_values(path, value)
        return value

    def clear(self) -> None:
        """Removes what was kept."""
        if ranks().first:
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()


def _is_artifact(classes: tuple[type, ...]) -> bool:
    return len(classes) == 1 and hasattr(classes[0], "save") and hasattr(classes[0], "load")


def _read(path: Path, classes: tuple[Any, ...]) -> Any:
    return classes[0].load(path) if _is_artifact(classes) else read_values(path, classes)
