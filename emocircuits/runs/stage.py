"""What a stage of a run is: a function from a run to files, and what makes its result out of date."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from emocircuits.registry import Registry
from emocircuits.runs.run import Run

ROOM = "emocircuits.stages"


@dataclass(frozen=True)
class Output:
    """What a stage leaves behind: paths in the run directory, and warnings for the report."""

    paths: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: its name, also that of its module in `emocircuits.stages`.
        summary: one line for `--help` and `--dry-run`.
        needs: stages whose outputs it reads.
        settings: tables and keys of the recipe that shape the result.
        check: refuses settings that cannot work, before the first stage of a run begins; each error names its
            key. It loads no model.
        work: does it; may be interrupted at any moment and called again.
        shared: whether all ranks of a job (`emocircuits.ranks`) work on it; else the first does it alone.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    settings: tuple[str, ...]
    work: Callable[[Run], Output]
    check: Callable[[Run], None]
    shared: bool = False


STAGES: Registry[Stage] = Registry("stage")


def stage(
    summary: str,
    *,
    needs: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    check: Callable[[Run], None] = lambda run: None,
    shared: bool = False,
) -> Callable[[Callable[[Run], Output]], Stage]:
    """Makes a function the stage of its name; see `Stage`."""
    return lambda work: STAGES.add(Stage(work.__name__, summary, needs, settings, work, check, shared))


def stages() -> Registry[Stage]:
    """All stages in the order of the run; their modules are loaded when this is first called."""
    for name in import_module(ROOM).ORDER:
        import_module(f"{ROOM}.{name}")
    return STAGES


def settings_of(stage: Stage, recipe: Any) -> dict[str, Any]:
    """What the recipe says that shapes the result of a stage, as plain values."""
    found = {}
    for name in stage.settings:
        value: Any = recipe.to_dict()
        for part in name.split("."):
            value = value[part]
        found[name] = value
    return found
