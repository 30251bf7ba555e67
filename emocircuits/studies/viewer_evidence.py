"""What the circuit stage measures for the circuit's page: both prompts of the example, and the nodes under
pushes.
"""

from dataclasses import replace

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.direction import Direction
from emocircuits.artifacts.evidence import CircuitEvidence, Control
from emocircuits.circuits.clean_corrupt import clean_and_corrupt
from emocircuits.circuits.push_effects import push_effects
from emocircuits.names import layer_of
from emocircuits.passes.pairs import PairBatch
from emocircuits.runs.workspace import Workspace
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.studies.tracing import neutral_batches

CONTROLS = ("random", "content")


def viewer_evidence(
    workspace: Workspace, behaviour: str, graph: CircuitGraph, example: PairBatch
) -> CircuitEvidence:
    """The corrupt prompt and the controls of one circuit.

    Args:
        workspace: the run.
        behaviour: name of the behaviour.
        graph: its circuit with the example.
        example: the example's pair.
    """
    model, recipe = workspace.model, workspace.recipe
    saes = open_dictionaries({site: workspace.sae(site) for site in workspace.circuit_sites}, model.d_model)
    names = [node.id for node in graph.nodes]
    return CircuitEvidence(
        emotion=recipe.emotion,
        controls=tuple(
            _control(workspace, behaviour, direction, graph, example) for direction in _directions(workspace)
        ),
        corrupt=clean_and_corrupt(
            model.bridge, saes, example, names, model.token_texts(example.corrupt[0].tolist())
        ),
    )


def _control(
    workspace: Workspace,
    behaviour: str,
    direction: Direction,
    graph: CircuitGraph,
    example: PairBatch,
) -> Control:
    model, settings, site = workspace.model, workspace.recipe.trace, direction.site
    metric, push = workspace.behaviour(behaviour).metric, direction.push(settings.strength)
    push = replace(push, name="push", vector=push.vector.to(workspace.recipe.device))
    behind = [name for name in workspace.circuit_sites if layer_of(name) > layer_of(site)]
    saes = open_dictionaries({name: workspace.sae(name) for name in behind}, model.d_model) if behind else {}
    effects: dict[str, float] = {}
    neutral = neutral_batches(workspace, behaviour, settings.prompts)
    for one, pairs in ((graph, neutral), (graph.example, [example])):
        if one is not None and behind:
            names = [node.id for node in one.nodes]
            effects |= push_effects(
                model.bridge, pairs, metric, push, saes, names, steps=settings.control_steps
            )
    count = sum(len(batch) for batch in neutral)
    note = (
        f"{direction.name} added at {site} with strength {settings.strength:g}: in the view of all "
        f"positions to {count} held-out prompts without pressure, in the view of one "
        "prompt to its corrupt version"
    )
    return Control(direction.name, direction.kind, effects, note=note)


def _directions(workspace: Workspace) -> list[Direction]:
    """The emotion, its opposite, and the first direction of each kind of control."""
    directions, recipe = workspace.directions(), workspace.recipe
    emotions = [name for name in (recipe.emotion, recipe.opposite) if name in directions.emotions]
    kinds = tuple(
        kind for kind in CONTROLS if kind in directions.controls and len(directions.controls[kind].names)
    )
    found = directions.with_controls(emotions, kinds=kinds)
    return [one for one in found if one.kind == "emotion"] + [
        next(one for one in found if one.kind == kind) for kind in kinds
    ]
