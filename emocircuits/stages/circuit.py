"""circuit: choose nodes, join them by edges, patch them for real, describe them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.attribution.methods.exact_edges import exact_edges
from emocircuits.circuits import circuit_from_attribution, stability, unroll, with_edges
from emocircuits.circuits.active import active_nodes
from emocircuits.circuits.build import clean_activations
from emocircuits.circuits.masks import MaskScores, closest, refined_scores
from emocircuits.circuits.overlap import overlap
from emocircuits.io.documents import write_csv, write_json
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.studies.example_tokens import example_tokens
from emocircuits.studies.feature_cards import card_label, feature_cards
from emocircuits.studies.tracing import path_table, trace_table
from emocircuits.studies.viewer_evidence import viewer_evidence


def check(run: Run) -> None:
    """Some sites lie after the depth at which circuits start."""
    if run.planned_sites:
        run.sites_of_circuits(run.planned_sites)


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
    recipe, model, saes = run.recipe, run.model, run.saes
    settings, tokens = recipe.circuit, recipe.attribute.max_tokens
    store, matches, paths = run.store, run.matches, []
    for name in recipe.behaviours:
        batches = run.pairs(name, "find", recipe.attribute.pairs)
        bound = run.behaviour(name)
        result = run.attribution(name)
        active = sum(active_nodes(model.bridge, _inside(run), batches, max_tokens=tokens).values())
        size = max(1, min(settings.max_nodes, int(settings.max_share * active)))
        scores = _mask_scores(run, batches, bound.metric, result, size)
        nodes = closest(
            model.bridge,
            _inside(run),
            batches,
            bound.metric,
            scores.best(size, seed=recipe.seed),
            max_tokens=tokens,
        )
        result = with_edges(
            result,
            model.bridge,
            saes,
            batches,
            bound.metric,
            nodes,
            verify=nodes,
            steps=run.gradient_steps,
            max_tokens=tokens,
        )
        cards = feature_cards(model, saes, store, matches, nodes)
        graph = circuit_from_attribution(
            result,
            nodes,
            edge_threshold=settings.edge_threshold,
            seed=recipe.seed,
            activations=clean_activations(model.bridge, saes, batches, nodes),
            details=cards,
            target_label=f"{' / '.join(bound.material.targets)} − {' / '.join(bound.material.honest)}",
            thresholds={
                "max_share": settings.max_share,
                "max_nodes": settings.max_nodes,
                "from_depth": settings.from_depth,
            },
            scores={
                "metric_clean": float(result.metric_clean.mean()),
                "metric_corrupt": float(result.metric_corrupt.mean()),
                "active_nodes": float(active),
                **_stability(scores, len(nodes), recipe.seed),
            },
            provenance=run.provenance("circuit", "attribute", "match"),
        )
        graph = _verified_edges(run, graph, batches, bound.metric)
        graph = replace(
            graph,
            nodes=tuple(
                replace(node, label=card_label(node.id, cards.get(node.id), node.label))
                for node in graph.nodes
            ),
        )
        example = _example(batches, result)
        texts = model.token_texts(example.clean[0].tolist())
        unrolled = unroll(
            model.bridge,
            _inside(run),
            example,
            bound.metric,
            graph,
            texts,
            steps=run.gradient_steps,
            max_tokens=tokens,
        )
        path = f"circuit_{name}.json"
        graph = replace(graph, example=unrolled)
        graph.save(run.path(path))
        beside, words = f"evidence_{name}.json", f"tokens_{name}.json"
        viewer_evidence(run, name, graph, example).save(run.path(beside))
        write_json(run.path(words), example_tokens(run, example))
        paths += [path, beside, words]
    emotions = [name for name in (recipe.emotion, recipe.opposite) if name in run.directions.emotions]
    write_csv(run.path("trace.csv"), trace_table(run, recipe.behaviours, emotions))
    write_csv(run.path("paths.csv"), path_table(run))
    write_json(run.path("overlap.json"), {"pairs": _overlaps(run)})
    return Output((*paths, "trace.csv", "paths.csv", "overlap.json"))


def _mask_scores(
    run: Run, batches: Sequence[PairBatch], metric: Metric, result: AttributionResult, size: int
) -> MaskScores:
    return refined_scores(
        run.model.bridge,
        _inside(run),
        batches,
        metric,
        size,
        among=result.nodes,
        seed=run.recipe.seed,
        looks=run.recipe.circuit.rounds,
        max_tokens=run.recipe.attribute.max_tokens,
    )


def _inside(run: Run) -> dict[str, Any]:
    """The SAEs of the sites that a circuit covers."""
    return {site: run.sae(site) for site in run.circuit_sites}


def _stability(scores: MaskScores, size: int, seed: int) -> dict[str, float]:
    """Whether other prompts would have given the same nodes; only what speaks for a node counts."""
    found = stability(scores.scores[:, scores.scores.mean(0) > 0], size, seed=seed)
    return {f"stability_{name}": float(value) for name, value in found.to_dict().items()}


def _verified_edges(
    run: Run, graph: CircuitGraph, batches: Sequence[PairBatch], metric: Metric
) -> CircuitGraph:
    """The strongest edges, each patched for real; `edges` are strongest first."""
    kept = graph.edges[: run.recipe.circuit.max_edges]
    pairs = [(edge.source, edge.target) for edge in kept]
    values, _ = exact_edges(
        run.model.bridge,
        _inside(run),
        batches,
        metric,
        pairs,
        max_tokens=run.recipe.attribute.max_tokens,
    )
    measured = values.mean(0, dtype=np.float64)
    return replace(
        graph,
        edges=tuple(replace(edge, verified=float(value)) for edge, value in zip(kept, measured, strict=True)),
    )


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


def _example(batches: list[PairBatch], result: object) -> PairBatch:
    """The pair whose metric changes most typically: the median change, the shorter prompt where two are as
    near.
    """
    change = result.metric_clean - result.metric_corrupt
    middle = sorted(change)[len(change) // 2]
    candidates = [
        (
            abs(float(change[int(index)] - middle)),
            batch.clean.shape[1],
            int(index),
            batch.rows(slice(row, row + 1)),
        )
        for batch in batches
        for row, index in enumerate(batch.index)
    ]
    return min(candidates, key=lambda one: one[:3])[3]
