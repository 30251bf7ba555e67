"""The nodes and edges of a circuit patched for real, within a budget of passes: nodes first, strongest first,
then edges.

A node takes its clean value in the corrupt run; an edge lets its target alone see the source's change
(`attribution.patches`, `attribution.exact_edges`). Among components a cause may need another one that the
corrupt run lacks; what does nothing there is patched in the clean run as well, the other way round, and that
effect is taken where it is something.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.circuit import CircuitGraph, Edge
from emocircuits.attribution.components import run_both, tokens_at_once
from emocircuits.attribution.methods.exact_edges import exact_edges
from emocircuits.attribution.methods.exact_patching import exact_patching
from emocircuits.circuits.candidates import dictionaries_at, graph_of
from emocircuits.circuits.members import member_edges, member_nodes, member_sites
from emocircuits.errors import UserError
from emocircuits.graphs.components import Graph
from emocircuits.graphs.patches import BACKGROUNDS, Patcher
from emocircuits.names import TARGET, parse_node
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, chunks
from emocircuits.passes.record import forward

NOTHING = 1e-3  # share of the metric's mean |clean - corrupt|
BOTH_RUNS = 2
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Measured:
    """Real effects, mean over prompts, and the passes they took."""

    nodes: Mapping[str, float]
    edges: Mapping[tuple[str, str], float]
    passes: int


def verify(
    circuit: CircuitGraph,
    model: Any,
    clean: Int[torch.Tensor, "..."],
    corrupt: Int[torch.Tensor, "..."],
    metric: Metric,
    saes: Mapping[str, Any] | None = None,
    budget: int | None = None,
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> CircuitGraph:
    """The same circuit with verified effects.

    Args:
        circuit: the circuit.
        model: any TransformerLens object.
        clean, corrupt: token ids (prompt, pos), pairs row by row.
        metric: logits -> one value per prompt; needs no gradient.
        saes: site -> SAE, where the circuit has features.
        budget: passes over all prompts that may be spent; None verifies everything. Where it does not reach,
            `verified` stays what it was.
        max_tokens: tokens per pass.

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
    members = member_nodes(circuit)
    batches = [PairBatch(clean, corrupt, torch.arange(len(clean)))]
    dictionaries = dictionaries_at(model, member_sites(circuit), saes)
    strength = {node.id: abs(node.effect or 0.0) for node in circuit.nodes}
    nodes = sorted(members, key=lambda node: -strength[node])
    weights = {(edge.source, edge.target): abs(edge.weight) for edge in circuit.edges}
    edges = sorted(member_edges(circuit), key=lambda edge: -weights[edge])
    if all(parse_node(node).kind in ("feature", "error") for node in members):
        found = _features(
            model,
            {site: saes[site] for site in dictionaries},
            batches,
            metric,
            nodes,
            edges,
            budget,
            max_tokens,
        )
    else:
        graph = graph_of(model, members, dictionaries, batches)
        found = _Components(graph, batches, metric, budget, max_tokens).measure(nodes, edges)
    return _filled(circuit, found)


def _filled(circuit: CircuitGraph, found: Measured) -> CircuitGraph:
    text = "effect of a real patch in the corrupt run"
    if any(node.kind == "component" for node in circuit.nodes):
        text += ", or in the clean run where that is nothing"
    nodes = tuple(replace(node, verified=found.nodes.get(node.id, node.verified)) for node in circuit.nodes)
    heads: dict[str, int] = {}
    for edge in circuit.edges:
        heads[edge.source] = heads.get(edge.source, 0) + 1

    def checked(edge: Edge) -> Edge:
        if "<" in edge.source:  # what its slot does, shared like its effect
            value = found.nodes.get(edge.source)
            return edge if value is None else replace(edge, verified=value / heads[edge.source])
        return replace(edge, verified=found.edges.get((edge.source, edge.target), edge.verified))

    return replace(
        circuit,
        nodes=nodes,
        edges=tuple(map(checked, circuit.edges)),
        conventions={**circuit.conventions, "verified": text},
        scores={**circuit.scores, "verification_passes": found.passes},
    )


def _features(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    nodes: Sequence[str],
    edges: Pairs,
    budget: int | None,
    max_tokens: int,
) -> Measured:
    room = float("inf") if budget is None else budget - BOTH_RUNS
    nodes = nodes[: int(min(room, len(nodes)))]
    exact = exact_patching(model, saes, batches, metric, nodes=list(nodes), max_tokens=max_tokens)
    values = dict(zip(exact.nodes, exact.effects.mean(0).tolist(), strict=True))
    # edges start from both runs anew, for the last site's and for the others
    room -= len(nodes) + 2 * BOTH_RUNS
    affordable, sources = [], set()
    for source, target in edges:
        cost = 1 + (source not in sources and target != TARGET)
        if room < cost:
            break
        room -= cost
        sources.add(source)
        affordable.append((source, target))
    if not affordable:
        return Measured(values, {}, exact.passes)
    effects, spent = exact_edges(model, saes, batches, metric, affordable, max_tokens=max_tokens)
    return Measured(
        values, dict(zip(affordable, effects.mean(0).tolist(), strict=True)), exact.passes + spent
    )


class _Components:
    """Patches of the nodes, slots and edges of a graph, as many as the budget pays for."""

    def __init__(
        self, graph: Graph, batches: Sequence[PairBatch], metric: Metric, budget: int | None, max_tokens: int
    ):
        self._graph, self._metric, self._budget = graph, metric, budget
        self._patchers, self._slot_rows = [], 0
        for chunk in chunks(batches, tokens_at_once(graph, max_tokens)):
            pair, spent = run_both(graph, chunk, metric)
            self._patchers.append(Patcher(graph, chunk, pair, metric, max_tokens))
            self._patchers[-1].rows += spent * len(chunk)
        self._prompts = sum(len(one.chunk) for one in self._patchers)
        change = [one.pair.clean.metric - one.pair.corrupt.metric for one in self._patchers]
        self._least = NOTHING * float(torch.cat(change).abs().mean())

    def measure(self, nodes: Sequence[str], edges: Pairs) -> Measured:
        """Real effects of nodes, then of slots, then of edges."""
        place = {name: number for number, name in enumerate(self._graph.nodes)}
        slot = {name: number for number, name in enumerate(self._graph.slots)}
        found = self._both_ways(
            [node for node in nodes if "<" not in node],
            lambda one, names, side: one.nodes([place[name] for name in names], side),
        )
        found |= self._both_ways(
            [node for node in nodes if "<" in node],
            lambda one, names, side: torch.stack([self._slot(one, name, side) for name in names], dim=1),
        )
        links = self._both_ways(
            edges,
            lambda one, pairs, side: one.edges(
                [(place[source], slot[target]) for source, target in pairs], side
            ),
        )
        return Measured(found, links, int(np.ceil(self._spent - 1e-9)))

    @property
    def _spent(self) -> float:
        return (sum(one.rows for one in self._patchers) + self._slot_rows) / self._prompts

    def _both_ways(
        self, items: Sequence[Any], effects: Callable[[Patcher, Sequence[Any], str], Tensor]
    ) -> dict[Any, float]:
        """In the corrupt run and, where that is nothing, in the clean run."""
        found: dict[Any, float] = {}
        for side in BACKGROUNDS:
            left = [
                item for item in items if side == "corrupt" or abs(found.get(item, np.inf)) <= self._least
            ]
            if self._budget is not None:
                left = left[: max(0, int(self._budget - self._spent + 1e-9))]
            if left:
                values = torch.cat([effects(one, left, side) for one in self._patchers]).mean(0).tolist()
                found |= {
                    item: value
                    for item, value in zip(left, values, strict=True)
                    if side == "corrupt" or abs(value) > self._least
                }
        return found

    @torch.no_grad()
    def _slot(self, one: Patcher, name: str, side: str) -> Float[Tensor, "prompt"]:
        """A head's query, key or value of the other run."""
        reader, inside = self._graph.reader_of(self._graph.slots.index(name))
        hook, head = reader.hook_of(inside), int(name.partition("<")[0].rpartition("h")[2])
        base, source = (
            (one.pair.corrupt, one.pair.clean) if side == "corrupt" else (one.pair.clean, one.pair.corrupt)
        )
        tokens = one.chunk.corrupt if side == "corrupt" else one.chunk.clean

        def patched(value: Tensor) -> Tensor:
            value = value.clone()
            value[:, :, head] = source.values[hook][:, :, head]
            return value

        run = forward(self._graph.anatomy, tokens, self._metric, one.chunk.index, changes={hook: patched})
        self._slot_rows += len(tokens)
        return (run.metric - base.metric) * (1 if side == "corrupt" else -1)
