"""What the circuit stage measures for the circuit's page: both prompts of the example, and the nodes under
pushes.
"""

from dataclasses import replace

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.direction import Direction
from emocircuits.artifacts.evidence import CircuitEvidence, Control
from emocircuits.circuits.activations import pair_activations
from emocircuits.circuits.push_effects import push_effects
from emocircuits.names import layer_of
from emocircuits.passes.task import Task
from emocircuits.runs.run import Run
from emocircuits.studies.tracing import neutral_task

CONTROLS = ("random", "content")


def viewer_evidence(run: Run, graph: CircuitGraph, example: Task) -> CircuitEvidence:
    """The corrupt prompt and the controls of one circuit.

    Args:
        run: the run.
        graph: the circuit with its example.
        example: the task on the example's pair alone.
    """
    names, (pair,) = [node.id for node in graph.nodes], example.prompts.groups
    texts = run.model.token_texts(pair.corrupt[0].tolist())
    neutral = neutral_task(run, graph.behaviour)
    return CircuitEvidence(
        emotion=run.recipe.emotion,
        controls=tuple(_control(run, graph, direction, example, neutral) for direction in _directions(run)),
        corrupt=pair_activations(example.at_sites(run.circuit_sites), pair, names, texts),
    )


def _control(run: Run, graph: CircuitGraph, direction: Direction, example: Task, neutral: Task) -> Control:
    settings, site = run.recipe.trace, direction.site
    push = direction.push(settings.strength)
    push = replace(push, name="push", vector=push.vector.to(run.recipe.device))
    after = [name for name in run.circuit_sites if layer_of(name) > layer_of(site)]
    effects: dict[str, float] = {}
    for shown, task in ((graph, neutral), (graph.example, example)):
        if shown is not None and after:
            names = [node.id for node in shown.nodes]
            effects |= push_effects(task.at_sites(after), push, names, steps=settings.control_steps)
    note = (
        f"{direction.name} added at {site} with strength {settings.strength:g}: in the view of all "
        f"positions to {len(neutral.prompts)} held-out prompts without pressure, in the view of one "
        "prompt to its corrupt version"
    )
    return Control(direction.name, direction.kind, effects, note=note)


def _directions(run: Run) -> list[Direction]:
    """The emotion, its opposite, and the first direction of each kind of control."""
    directions, recipe = run.directions, run.recipe
    emotions = [name for name in (recipe.emotion, recipe.opposite) if name in directions.emotions]
    kinds = tuple(
        kind for kind in CONTROLS if kind in directions.controls and len(directions.controls[kind].names)
    )
    found = directions.with_controls(emotions, kinds=kinds)
    return [one for one in found if one.kind == "emotion"] + [
        next(one for one in found if one.kind == kind) for kind in kinds
    ]
