"""What a stage of a run is: a function from a workspace to files, and what makes its result stale."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emocircuits.registry import Registry
from emocircuits.runs.recipe import Recipe
from emocircuits.runs.workspace import Workspace


@dataclass(frozen=True)
class Output:
    """What a stage leaves behind: paths in the run directory, and warnings for the report."""

    paths: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: its name, also its subcommand.
        summary: one line for `--help` and `--dry-run`.
        needs: stages whose outputs it reads.
        settings: the part of the recipe that shapes its result.
        work: does it; may be interrupted at any moment and called again.
        shared: whether all ranks of a job (`emocircuits.ranks`) work on it; else the first does it alone.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    settings: Callable[[Recipe], dict[str, Any]]
    work: Callable[[Workspace], Output]
    shared: bool = False


STAGES: Registry[Stage] = Registry("stage")
