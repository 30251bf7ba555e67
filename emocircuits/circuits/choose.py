"""From effects to a circuit that was tested: choose nodes together, join them by edges, patch them all for
real.

A circuit of SAE features covers the sites after `from_depth` of the model; what lies before is left whole.
Nodes are scored by what keeping them together does (`masks`), the best of them that come closest to the model
stay, edges among them are drawn (`graphs.features`), and every node and the strongest edges are patched for
real.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.attribution.methods.exact import patched_nodes
from emocircuits.attribution.methods.gradients import with_feature_edges
from emocircuits.attribution.methods.search_evidence import Bench
from emocircuits.circuits.activations import active_nodes
from emocircuits.circuits.from_attribution import circuit_of_nodes
from emocircuits.circuits.masks import MaskScores, best_prefix, refined_scores
from emocircuits.circuits.settings import CircuitSettings
from emocircuits.circuits.stability import stability
from emocircuits.errors import UserError
from emocircuits.graphs.features import FeatureGraph
from emocircuits.passes.task import Task


def choose_circuit(
    effects: AttributionResult,
    task: Task,
    settings: CircuitSettings | None = None,
    *,
    max_nodes: int | None = None,
    seed: int = 0,
) -> CircuitGraph:
    """The circuit of a task, chosen on its prompts; what the circuit stage of a run chooses.

    Args:
        effects: effects of features and errors on the same prompts.
        task: the find prompts, the metric, and SAEs at all sites of the model that effects were found at.
        settings: which nodes become the circuit; by default those of the `[circuit]` table.
        max_nodes: most nodes, instead of the settings' own.
        seed: seed of the bootstraps.

    Returns:
        The circuit with real effects of all nodes and of the strongest edges. `describe_circuit` adds what
        people want to read.

    Raises:
        UserError: effects of components, no site that a circuit may cover, or no node that is certain enough.
    """
    settings = settings or CircuitSettings()
    most = settings.max_nodes if max_nodes is None else max_nodes
    if most < 1:
        raise UserError(f"a circuit of at most {most} nodes", expected="at least 1")
    inside = settings.sites(tuple(task.dictionaries), int(task.model.cfg.n_layers))
    here = task.at_sites(inside)
    active = sum(active_nodes(here).values())
    size = max(1, min(most, int(settings.max_share * active)))
    scores = refined_scores(here, size, among=effects.nodes, seed=seed, rounds=settings.rounds)
    nodes = best_prefix(here, scores.best(size, seed=seed))
    joined = with_edges(effects, here, nodes)
    circuit = circuit_of_nodes(joined, nodes, edge_threshold=settings.edge_threshold, seed=seed)
    return replace(
        _with_patched_edges(circuit, here, settings.max_edges),
        thresholds={
            "edge": settings.edge_threshold,
            "max_share": settings.max_share,
            "max_nodes": most,
            "from_depth": settings.from_depth,
        },
        scores={
            "metric_clean": float(effects.metric_clean.mean()),
            "metric_corrupt": float(effects.metric_corrupt.mean()),
            "active_nodes": float(active),
            **_stability(scores, len(nodes), seed),
        },
        conventions={**circuit.conventions, "sites": list(inside)},
    )


def with_edges(effects: AttributionResult, task: Task, nodes: Sequence[str]) -> AttributionResult:
    """The same effects with the edges among some nodes, and these nodes patched for real.

    Args:
        effects: effects of features and errors on the same prompts; edges go with gradients integrated over
            as many midpoints as theirs.
        task: the prompts, the metric, and the SAEs of the nodes' sites.
        nodes: nodes to join; all must be in the result.

    Raises:
        UserError: a node that the result does not have.
    """
    place = {node: number for number, node in enumerate(effects.nodes)}
    missing = [node for node in nodes if node not in place]
    if missing:
        raise UserError(f"the node {missing[0]} is not in the attribution result")
    columns = [place[node] for node in nodes]
    joined = with_feature_edges(effects, task, columns, steps=effects.steps)
    patched = patched_nodes(task, nodes)
    verified = np.full(len(effects.nodes), np.nan, dtype=effects.effects.dtype)
    verified[columns] = patched.effects.mean(0)
    return replace(joined, verified=verified, passes=joined.passes + patched.passes)


def _with_patched_edges(circuit: CircuitGraph, task: Task, most: int) -> CircuitGraph:
    """The strongest edges, each patched for real; edges are strongest first."""
    kept = circuit.edges[:most]
    if not kept:
        return circuit
    graph = FeatureGraph(task, tuple(node.id for node in circuit.nodes if node.kind != "target"))
    bench = Bench.open(graph)
    place = {name: number for number, name in enumerate(graph.slots)}
    number = {pair: edge for edge, pair in enumerate(bench.pairs)}
    numbers = [number[place[edge.source], place[edge.target]] for edge in kept]
    effects = bench.edges(numbers).mean(0, dtype=np.float64)
    edges = tuple(replace(edge, verified=float(value)) for edge, value in zip(kept, effects, strict=True))
    return replace(circuit, edges=edges)


def _stability(scores: MaskScores, size: int, seed: int) -> dict[str, float]:
    """Whether other prompts would have given the same nodes; only what speaks for a node counts."""
    found: dict[str, Any] = stability(scores.scores[:, scores.scores.mean(0) > 0], size, seed=seed).to_dict()
    return {f"stability_{name}": float(value) for name, value in found.items()}
