"""circuit: choose nodes, join them by edges, patch them for real, describe them."""

from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.circuits.choose import choose_circuit
from emocircuits.circuits.describe import describe_circuit, typical_pair
from emocircuits.circuits.overlap import overlap
from emocircuits.io.documents import write_csv, write_json
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.runs.workers import for_each
from emocircuits.studies.example_tokens import example_tokens
from emocircuits.studies.tracing import path_table, trace_table, traces
from emocircuits.studies.viewer_evidence import viewer_evidence


def check(run: Run) -> None:
    """Some sites lie after the depth at which circuits start."""
    if run.planned_sites:
        run.recipe.circuit.sites(run.planned_sites, run.planned_depth)


@stage(
    "choose, join and verify the circuit's nodes; trace the emotion to the tokens",
    needs=("plan", "collect", "directions", "sae", "match", "attribute"),
    check=check,
    settings=("circuit", "attribute", "trace", "behaviours", "emotion", "opposite"),
)
def circuit(run: Run) -> Output:
    """Writes `circuit_<behaviour>.json`, the circuit over all find prompts and unrolled over one of them;
    `evidence_<behaviour>.json`, its nodes under pushes and on the corrupt prompt; `tokens_<behaviour>.json`,
    readings and attention on that prompt; `trace.csv`, where the effect of pushing along the emotion runs;
    `paths.csv`, the strongest paths of the circuits; and `overlap.json`, what the circuits of the behaviours
    have in common.
    """
    recipe = run.recipe
    emotions = [name for name in (recipe.emotion, recipe.opposite) if name in run.directions.emotions]
    parts = [partial(_circuit_of, name) for name in recipe.behaviours]
    parts += traces(run, recipe.behaviours, emotions)
    done = for_each(run, lambda run, part: part(run), parts, "circuits and traces")
    paths = [path for written in done[: len(recipe.behaviours)] for path in written]
    write_csv(run.path("trace.csv"), trace_table(done[len(recipe.behaviours) :]))
    write_csv(run.path("paths.csv"), path_table(run))
    write_json(run.path("overlap.json"), {"pairs": _overlaps(run)})
    return Output((*paths, "trace.csv", "paths.csv", "overlap.json"))


def _circuit_of(name: str, run: Run) -> list[str]:
    """Writes what belongs to the circuit of one behaviour."""
    find, _ = run.tasks(name)
    effects = run.attribution(name)
    choose = partial(choose_circuit, effects, find, run.recipe.circuit, seed=run.recipe.seed)
    chosen = run.keep(f"chosen {name}", choose, CircuitGraph)
    graph = run.keep(f"circuit {name}", partial(_described, run, chosen, effects, find), CircuitGraph)
    example = typical_pair(effects, find.prompts)
    alone = find.on(PromptPairs((example,)))
    evidence = run.keep(f"evidence {name}", partial(viewer_evidence, run, graph, alone), CircuitEvidence)
    paths = [f"{kind}_{name}.json" for kind in ("circuit", "evidence", "tokens")]
    graph.save(run.path(paths[0]))
    evidence.save(run.path(paths[1]))
    write_json(run.path(paths[2]), example_tokens(run, example))
    return paths


def _described(run: Run, chosen: CircuitGraph, effects: AttributionResult, find: Task) -> CircuitGraph:
    """The circuit with what people want to read, and where it comes from."""
    described = describe_circuit(chosen, effects, find, run.model, run.store, run.matches)
    return replace(described, provenance=run.provenance("circuit", "attribute", "match"))


def _overlaps(run: Run) -> list[dict[str, Any]]:
    found = []
    for first, second in combinations(run.recipe.behaviours, 2):
        results = [run.attribution(name).at_sites(run.circuit_sites) for name in (first, second)]
        nodes = [
            [node.id for node in run.circuit(name).nodes if node.kind in ("feature", "error")]
            for name in (first, second)
        ]
        common = overlap(results[0], nodes[0], results[1], nodes[1])
        found.append({"first": first, "second": second, **common.to_dict()})
    return found
