"""The nodes and edges of a circuit patched for real, within a budget of passes: nodes first, strongest first,
then the slots of heads, then edges.

A node takes its clean value in the corrupt run; an edge lets its target alone see the source's change
(`graphs.component_patches`, `graphs.feature_patches`). Among components a cause may need another one that the
corrupt run lacks; what does nothing there is patched in the clean run as well, the other way round, and that
effect is taken where it is something.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from emocircuits.artifacts.circuit import CircuitGraph, Edge
from emocircuits.attribution.methods.search_evidence import Bench
from emocircuits.circuits.candidates import graph_of_circuit, member_edges, member_nodes
from emocircuits.errors import UserError
from emocircuits.graphs.graph import BACKGROUNDS
from emocircuits.names import parse_node
from emocircuits.passes.gathered import whole_passes
from emocircuits.passes.task import Task

NOTHING = 1e-3  # share of the metric's mean |clean - corrupt|
BOTH_RUNS = 2
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class _Measured:
    """Real effects, mean over prompts, of nodes and slots and of edges."""

    nodes: Mapping[str, float]
    edges: Mapping[tuple[str, str], float]


def verify(circuit: CircuitGraph, task: Task, *, budget: int | None = None) -> CircuitGraph:
    """The same circuit with verified effects.

    Args:
        circuit: the circuit.
        task: the prompts, the metric (it needs no gradient), and SAEs where the circuit has features.
        budget: passes over all prompts that may be spent; None verifies everything. Where it does not reach,
            `verified` stays what it was.

    Returns:
        The circuit; `scores["verification_passes"]` is what was spent.

    Raises:
        UserError: an empty circuit, missing SAEs, prompts that do not fit, or a budget below both runs and
            one patch.
    """
    if budget is not None and budget < BOTH_RUNS + 1:
        raise UserError(
            f"a budget of {budget} passes", expected=f"at least {BOTH_RUNS + 1}: both runs and one patch"
        )
    graph = graph_of_circuit(circuit, task)
    bench = Bench.open(graph, budget)
    return _with_effects(circuit, _measured(circuit, bench), bench)


def _measured(circuit: CircuitGraph, bench: Bench) -> _Measured:
    graph = bench.graph
    strength = {node.id: abs(node.effect or 0.0) for node in circuit.nodes}
    weight = {(edge.source, edge.target): abs(edge.weight) for edge in circuit.edges}
    members = sorted(member_nodes(circuit), key=lambda node: -strength[node])
    slots = [node for node in members if parse_node(node).is_slot]
    nodes = [node for node in members if node not in set(slots)]
    edges = sorted(member_edges(circuit), key=lambda edge: -weight[edge])
    place = {name: number for number, name in enumerate(graph.nodes)}
    slot = {name: number for number, name in enumerate(graph.slots)}
    number = {pair: edge for edge, pair in enumerate(bench.pairs)}
    strange = [edge for edge in edges if (place.get(edge[0]), slot.get(edge[1])) not in number]
    if strange:
        raise UserError(
            f"the edge {strange[0][0]} -> {strange[0][1]}",
            expected="nodes of adjacent sites, or of the last site and the logits"
            if graph.unit == "nodes"
            else "an edge of the model's graph",
        )
    effects = _both_ways(bench, nodes, [place[node] for node in nodes], bench.nodes, _first)
    effects |= _both_ways(bench, slots, [slot[name] for name in slots], bench.slots, _first)
    numbers = [number[place[source], slot[target]] for source, target in edges]
    return _Measured(effects, _both_ways(bench, edges, numbers, bench.edges, bench.affordable))


def _first(numbers: np.ndarray, room: int) -> np.ndarray:
    return numbers[:room]


def _both_ways(
    bench: Bench,
    items: Sequence[Item],
    numbers: Sequence[int],
    patch: Callable[..., np.ndarray],
    affordable: Callable[[np.ndarray, int], np.ndarray],
) -> dict[Item, float]:
    """Mean effects in the corrupt run and, among components, in the clean run where that is nothing."""
    effects: dict[Item, float] = {}
    by_number, least = dict(zip(numbers, items, strict=True)), NOTHING * bench.scale
    for background in BACKGROUNDS if bench.graph.unit == "edges" else BACKGROUNDS[:1]:
        left = [
            number
            for number, item in by_number.items()
            if background == "corrupt" or abs(effects.get(item, np.inf)) <= least
        ]
        chosen = affordable(np.array(left, dtype=np.int64), bench.room())
        values = patch(chosen, background).mean(0).tolist()
        for edge, value in zip(chosen.tolist(), values, strict=True):
            if background == "corrupt" or abs(value) > least:
                effects[by_number[edge]] = value
    return effects


def _with_effects(circuit: CircuitGraph, measured: _Measured, bench: Bench) -> CircuitGraph:
    text = "effect of a real patch in the corrupt run"
    if bench.graph.unit == "edges":
        text += ", or in the clean run where that is nothing"
    nodes = tuple(
        replace(node, verified=measured.nodes.get(node.id, node.verified)) for node in circuit.nodes
    )
    heads: dict[str, int] = {}
    for edge in circuit.edges:
        heads[edge.source] = heads.get(edge.source, 0) + 1

    def checked(edge: Edge) -> Edge:
        if parse_node(edge.source).is_slot:  # what its slot does, shared like its effect
            value = measured.nodes.get(edge.source)
            return edge if value is None else replace(edge, verified=value / heads[edge.source])
        return replace(edge, verified=measured.edges.get((edge.source, edge.target), edge.verified))

    return replace(
        circuit,
        nodes=nodes,
        edges=tuple(map(checked, circuit.edges)),
        conventions={**circuit.conventions, "verified": text},
        scores={**circuit.scores, "verification_passes": whole_passes(bench.spent)},
    )
