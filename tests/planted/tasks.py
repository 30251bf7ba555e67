"""Tasks of the models made for tests."""

from collections.abc import Sequence
from typing import Any

import torch

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.attribution.attribute import attribute
from emocircuits.attribution.methods.gradients import graph_effects
from emocircuits.circuits.choose import with_edges
from emocircuits.circuits.from_attribution import circuit_of_nodes, select_nodes
from emocircuits.graphs.features import FeatureGraph
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.task import Task


def task_of(
    model: Any, batches: PairBatch | Sequence[PairBatch], metric: Any, saes: Any = None, **options: Any
) -> Task:
    """A task over batches of pairs."""
    groups = (batches,) if isinstance(batches, PairBatch) else tuple(batches)
    return Task(model, PromptPairs(groups), metric, saes or {}, **options)


def pairs_of(clean: Any, corrupt: Any) -> PairBatch:
    """Pairs numbered from 0."""
    clean, corrupt = (torch.as_tensor(side) for side in (clean, corrupt))
    return PairBatch(clean, corrupt, torch.arange(len(clean)))


def feature_edges(task: Task, nodes: Sequence[str], steps: int = 0) -> EdgeEffects:
    """First-order effects of all edges among some features and errors; the logits are target `len(nodes)`."""
    return graph_effects(FeatureGraph(task, tuple(nodes)), {}, steps=steps).edges


def strong_circuit(
    task: Task, threshold: float, edge_threshold: float = 0.0025
) -> tuple[AttributionResult, CircuitGraph]:
    """Effects, and the circuit of the nodes that are strong for certain, all of them really patched."""
    effects = attribute(task, edges=False)
    nodes = select_nodes(effects, threshold=threshold)
    joined = with_edges(effects, task, nodes)
    return joined, circuit_of_nodes(joined, nodes, edge_threshold=edge_threshold)
