"""circuit: choose nodes, join them by edges, patch them for real, describe them."""

from dataclasses import replace
from itertools import combinations
from typing import Any

from emocircuits.attribution.pairs import PairBatch
from emocircuits.circuits import circuit_from_attribution, select_nodes, unroll, with_edges
from emocircuits.circuits.build import clean_activations
from emocircuits.circuits.overlap import overlap
from emocircuits.io.documents import write_csv, write_json
from emocircuits.pipeline.feature_cards import card_label, feature_cards
from emocircuits.pipeline.stage import Output, Stage
from emocircuits.pipeline.tracing import trace_table
from emocircuits.pipeline.viewer_evidence import viewer_evidence
from emocircuits.pipeline.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `circuit_<behaviour>.json`, the circuit over all find prompts and unrolled over one of them;
    `evidence_<behaviour>.json`, its nodes under pushes and on the corrupt prompt; `trace.csv`, where the effect of pushing
    along the emotion runs; and `overlap.json`, what the circuits of the behaviours have in common.
    """
    recipe, model, saes = workspace.recipe, workspace.model, workspace.saes()
    settings, tokens = recipe.circuit, recipe.attribute.max_tokens
    store, matches, paths = workspace.store(), workspace.matches(), []
    for name in recipe.behaviours:
        batches = workspace.pairs(name, "find", recipe.attribute.pairs)
        bound = workspace.behaviour(name)
        result = workspace.attribution(name)
        nodes = select_nodes(result.at_sites(workspace.circuit_sites), threshold=settings.threshold, max_nodes=settings.max_nodes, seed=recipe.seed)
        result = with_edges(result, model.bridge, saes, batches, bound.metric, nodes, verify=nodes[:settings.verify_nodes],
                            steps=workspace.gradient_steps, max_tokens=tokens)
        cards = feature_cards(model, saes, store, matches, nodes)
        graph = circuit_from_attribution(
            result, nodes, edge_threshold=settings.edge_threshold, seed=recipe.seed,
            activations=clean_activations(model.bridge, saes, batches, nodes),
            details=cards,
            target_label=f"{' / '.join(bound.material.targets)} − {' / '.join(bound.material.honest)}",
            thresholds={"node": settings.threshold, "max_nodes": settings.max_nodes, "from_depth": settings.from_depth},
            scores={"metric_clean": float(result.metric_clean.mean()), "metric_corrupt": float(result.metric_corrupt.mean())},
            provenance=workspace.provenance("circuit", "attribute", "match"))
        graph = replace(graph, nodes=tuple(replace(node, label=card_label(node.id, cards.get(node.id), node.label)) for node in graph.nodes))
        example = _example(batches, result)
        texts = model.token_texts(example.clean[0].tolist())
        inside = {site: saes[site] for site in workspace.circuit_sites}
        unrolled = unroll(model.bridge, inside, example, bound.metric, graph, texts, steps=workspace.gradient_steps,
                          max_tokens=tokens)
        path = f"circuit_{name}.json"
        graph = replace(graph, example=unrolled)
        graph.save(workspace.path(path))
        beside = f"evidence_{name}.json"
        viewer_evidence(workspace, name, graph, example).save(workspace.path(beside))
        paths += [path, beside]
    emotions = [name for name in (recipe.emotion, recipe.opposite) if name in workspace.directions().emotions]
    write_csv(workspace.path("trace.csv"), trace_table(workspace, recipe.behaviours, emotions))
    write_json(workspace.path("overlap.json"), {"pairs": _overlaps(workspace)})
    return Output((*paths, "trace.csv", "overlap.json"))


def _overlaps(workspace: Workspace) -> list[dict[str, Any]]:
    found = []
    for first, second in combinations(workspace.recipe.behaviours, 2):
        results = [workspace.attribution(name).at_sites(workspace.circuit_sites) for name in (first, second)]
        nodes = [[node.id for node in workspace.circuit(name).nodes if node.kind in ("feature", "error")] for name in (first, second)]
        common = overlap(results[0], nodes[0], results[1], nodes[1])
        found.append({"first": first, "second": second, **common.to_dict()})
    return found


def _example(batches: list[PairBatch], result: object) -> PairBatch:
    """The pair whose metric changes most typically: the median change, the shorter prompt where two are as near."""
    change = result.metric_clean - result.metric_corrupt
    middle = sorted(change)[len(change) // 2]
    candidates = [(abs(float(change[int(index)] - middle)), batch.clean.shape[1], int(index), batch.rows(slice(row, row + 1)))
                  for batch in batches for row, index in enumerate(batch.index)]
    return min(candidates, key=lambda one: one[:3])[3]


STAGE = Stage("circuit", "choose, join and verify the circuit's nodes; trace the emotion to the tokens", ("plan", "collect", "directions", "sae", "match", "attribute"),
              lambda recipe: {"circuit": recipe.to_dict()["circuit"], "attribute": recipe.to_dict()["attribute"],
                              "trace": recipe.to_dict()["trace"], "behaviours": recipe.behaviours,
                              "emotions": [recipe.emotion, recipe.opposite]}, work)
