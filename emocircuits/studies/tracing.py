"""From emotions to tokens: the splits of `emocircuits.circuits.trace` for an emotion, its opposite and every
control.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from emocircuits.artifacts.direction import Direction
from emocircuits.artifacts.push import Push
from emocircuits.circuits.paths import strongest_paths
from emocircuits.circuits.trace import trace_pushes
from emocircuits.errors import UserError, unknown
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.names import TARGET, NodeId, format_node, layer_of
from emocircuits.passes.task import Task
from emocircuits.runs.opening import open_run
from emocircuits.runs.run import Run
from emocircuits.runs.workers import for_each


def traces(
    run: Run, behaviours: Sequence[str], emotions: Sequence[str]
) -> list[Callable[[Run], pd.DataFrame]]:
    """The traces of emotions and of their controls on behaviours, to be made in any order; `trace_table`
    joins what they give.

    Controls are traced with fewer steps of integration; their remainders say whether that was enough.
    """
    settings = run.recipe.trace
    groups = {
        "emotions": (run.directions.with_controls(emotions, kinds=()), settings.steps),
        "controls": (_controls(run), settings.control_steps),
    }
    return [
        partial(_traced, behaviour, name, directions, steps)
        for behaviour in behaviours
        for name, (directions, steps) in groups.items()
        if directions
    ]


def trace_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row per behaviour, direction and part: `behaviour, direction, kind, split, part, amount, ci_low,
    ci_high, share`.
    """
    table, first = pd.concat(tables, ignore_index=True), ["behaviour", "direction", "kind"]
    return table[[*first, *(name for name in table if name not in first)]]


def _traced(
    behaviour: str, group: str, directions: Sequence[Direction], steps: int, run: Run
) -> pd.DataFrame:
    return run.keep(
        f"trace {behaviour} {group}", partial(trace_directions, run, behaviour, directions, steps=steps)
    )


def trace_directions(
    run: Run, behaviour: str, directions: Sequence[Direction], *, steps: int
) -> pd.DataFrame:
    """Traces directions of a run on the behaviour's held-out prompts without pressure; see `trace_table`."""
    task = neutral_task(run, behaviour).at_sites([_site_after_push(run)])
    found = trace_pushes(
        task,
        [_push(run, direction) for direction in directions],
        matched=_matched(run),
        steps=steps,
        seed=run.recipe.seed,
    )
    return trace_table(
        [
            trace.table.assign(behaviour=behaviour, direction=direction.name, kind=direction.kind)
            for direction, trace in zip(directions, found, strict=True)
        ]
    )


def _push(run: Run, direction: Direction) -> Push:
    push = direction.push(run.recipe.trace.strength)
    return replace(push, name=_plain(push.name), vector=push.vector.to(run.recipe.device))


def neutral_task(run: Run, behaviour: str) -> Task:
    """The behaviour's task on held-out prompts without pressure, each paired with itself."""
    recipe, bound = run.recipe, run.behaviour(behaviour)
    return bound.neutral_task(
        "score", run.saes, limit=recipe.trace.prompts, max_tokens=recipe.attribute.max_tokens
    )


def trace_run(
    directory: Path,
    emotion: str,
    behaviour: str,
    *,
    overrides: tuple[str, ...] = (),
    loading: Loading = AS_IT_IS,
) -> pd.DataFrame:
    """`trace_table` of one emotion and behaviour of a finished run, with its controls.

    Raises:
        UserError: no run, or an emotion or behaviour that it does not have.
    """
    run = open_run(directory, loading, overrides)
    recipe = run.recipe
    if behaviour not in recipe.behaviours:
        raise unknown("behaviour of the run", behaviour, recipe.behaviours)
    if not run.path("directions.h5").is_file():
        raise UserError(f"{directory} has no directions", cure=f"emocircuits run --out {directory}")
    if emotion not in run.directions.emotions:
        raise unknown("emotion", emotion, run.directions.emotions)
    parts = traces(run, [behaviour], [emotion])
    return trace_table(for_each(run, lambda run, trace: trace(run), parts, "trace"))


def path_table(run: Run, k: int = 12) -> pd.DataFrame:
    """The strongest paths from matched features to the metric, k per behaviour; from the first site's nodes
    where none is matched.

    Columns: `behaviour, source, path, amount, share_of_source, share_of_change`.
    """
    rows = []
    for behaviour in run.recipe.behaviours:
        circuit = run.circuit(behaviour)
        labels = {node.id: node.label for node in circuit.nodes}
        matched = {
            format_node(NodeId("feature", site=site, feature=feature))
            for site, features in _matched(run).items()
            for feature in features
        }
        first = min((layer_of(node.site) for node in circuit.nodes if node.site), default=0)
        sources = [node for node in labels if node in matched] or [
            node.id for node in circuit.nodes if node.site and layer_of(node.site) == first
        ]
        change = circuit.node(TARGET).effect
        found = [
            (
                behaviour,
                source,
                " → ".join(labels[node] for node in path.nodes),
                path.amount,
                path.share,
                path.amount / change,
            )
            for source in sources
            for path in strongest_paths(circuit, source, TARGET, k)
        ]
        rows += sorted(found, key=lambda row: -abs(row[3]))[:k]
    return pd.DataFrame(
        rows, columns=["behaviour", "source", "path", "amount", "share_of_source", "share_of_change"]
    )


def _controls(run: Run) -> list[Direction]:
    counts = {
        "random": run.recipe.trace.random_controls,
        "content": run.recipe.trace.content_controls,
    }
    found = run.directions.with_controls((), kinds=tuple(counts))
    return [
        one
        for kind, count in counts.items()
        for one in [other for other in found if other.kind == kind][:count]
    ]


def _site_after_push(run: Run) -> str:
    """The reading site, where that lies after the push; else the last one."""
    directions = run.directions
    after = layer_of(directions.read_site) > layer_of(directions.steer_site)
    return directions.read_site if after else run.model.sites[-1]


def _matched(run: Run) -> dict[str, list[int]]:
    table = run.matches.table
    kept = table[(table["emotion"] == run.recipe.emotion) & table["kept"].astype(bool)]
    return {site: sorted(map(int, rows["feature"])) for site, rows in kept.groupby("site")}


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() or char in "_.-" else "-" for char in name)
