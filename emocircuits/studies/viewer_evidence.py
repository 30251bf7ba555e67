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
from emocircuits.runs.run import Run
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.studies.tracing import neutral_batches

CONTROLS = ("random", "content")


def viewer_evidence(run: Run, behaviour: str, graph: CircuitGraph, example: PairBatch) -> CircuitEvidence:
    """The corrupt prompt and the controls of one circuit.

    Args:
        run: the run.
        behaviour: name of the behaviour.
        graph: its circuit with the example.
        example: the example's pair.
    """
    model, recipe = run.model, run.recipe
    saes = open_dictionaries({site: run.sae(site) for site in run.circuit_sites}, model.d_model)
    names = [node.id for node in graph.nodes]
    return CircuitEvidence(
        emotion=recipe.emotion,
        controls=tuple(_control(run, behaviour, direction, graph, example) for direction in _directions(run)),
        corrupt=clean_and_corrupt(
            model.bridge, saes, example, names, model.token_texts(example.corrupt[0].tolist())
        ),
    )


def _control(
    run: Run,
    behaviour: str,
    direction: Direction,
    graph: CircuitGraph,
    example: PairBatch,
) -> Control:
    model, settings, site = run.model, run.recipe.trace, direction.site
    metric, push = run.behaviour(behaviour).metric, direction.push(settings.strength)
    push = replace(push, name="push", vector=push.vector.to(run.recipe.device))
    behind = [name for name in run.circuit_sites if layer_of(name) > layer_of(site)]
    saes = open_dictionaries({name: run.sae(name) for name in behind}, model.d_model) if behind else {}
    effects: dict[str, float] = {}
    neutral = neutral_batches(run, behaviour, settings.prompts)
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
