"""The table of all commands; parser, help, documentation and tests read this and nothing else."""

from collections.abc import Iterator

from emocircuits.cli import (
    behaviours,
    cost,
    directions,
    doctor,
    layers,
    match,
    monitor,
    organism,
    recipe,
    run,
    sae,
    show,
    steer,
    store,
    texts,
    trace,
)
from emocircuits.cli.verb import Group, Noun, Verb

TABLE = (
    Group(
        "run",
        "a recipe, and what its run shows",
        (run.RUN_RECIPE, run.STAGE, recipe.RECIPE, show.VIEW, show.REPORT, show.FIGURES, show.EXPORT),
    ),
    Group(
        "ask",
        "a finished run, or any model",
        (
            directions.NOUN,
            match.NOUN,
            trace.TRACE,
            steer.NOUN,
            monitor.MONITOR,
            layers.LAYERS,
            behaviours.BEHAVIOURS,
            cost.COST,
        ),
    ),
    Group("make", "models, SAEs, stores and texts", (organism.NOUN, sae.NOUN, store.NOUN, texts.TEXTS)),
    Group("check", "this installation", (doctor.DOCTOR,)),
)


def entries() -> dict[str, Verb | Noun]:
    """The first words of all commands."""
    return {entry.name: entry for group in TABLE for entry in group.entries}


def verbs() -> Iterator[Verb]:
    """All commands in the order of the table."""
    for entry in entries().values():
        yield from entry.verbs if isinstance(entry, Noun) else (entry,)
