"""What a circuit consists of, and what one is chosen from: circuits as choices among the items of a graph.

Everything that scores circuits sees choices alone, rows of booleans over the nodes of a feature graph or the
edges of a component graph, so circuits of all kinds are scored by the same code.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError
from emocircuits.graphs.components import component_graph
from emocircuits.graphs.features import FeatureGraph
from emocircuits.graphs.graph import Graph
from emocircuits.names import parse_node
from emocircuits.passes.task import Task


@dataclass(frozen=True, eq=False)
class Candidates:
    """The items that circuits are chosen from.

    Attributes:
        graph: the graph, over the prompts that the effects were found on.
        effects: effect of every item, per prompt.
    """

    graph: Graph
    effects: Float[np.ndarray, "prompt item"]

    @classmethod
    def of(cls, result: AttributionResult, task: Task) -> "Candidates":
        """The nodes of a feature result, the edges of a component or mixed one.

        Args:
            result: effects on the prompts of the task.
            task: the find prompts, with SAEs for all features of the result.

        Raises:
            UserError: features without SAEs, nodes at single positions, or a component result without edges.
        """
        graph = graph_of(result.nodes, task)
        if graph.unit == "nodes":
            return cls(graph, result.effects)
        if result.edges is None:
            raise UserError("a component result without edges", expected="attribute(…, edges=True)")
        column = {
            f"{result.nodes[source]} -> {result.slots[target]}": number
            for number, (source, target) in enumerate(
                zip(result.edges.sources, result.edges.targets, strict=True)
            )
        }
        missing = [name for name in graph.items if name not in column]
        if missing:
            raise UserError(f"the result has no edge {missing[0]}", expected="all edges of its graph")
        return cls(graph, result.edges.effects[:, [column[name] for name in graph.items]])

    def choice(self, members: Collection[Any]) -> Bool[np.ndarray, "item"]:
        """A circuit as booleans; see `Graph.choice`."""
        return self.graph.choice(members)


def graph_of(nodes: Collection[str], task: Task) -> Graph:
    """The graph that some nodes belong to: features and errors alone, or all components with the features
    among the nodes.

    Raises:
        UserError: no node, nodes at single positions, or features without SAEs.
    """
    parsed = [parse_node(node) for node in nodes]
    if any(node.position is not None for node in parsed):
        raise UserError(
            "a circuit of nodes at single positions",
            expected="nodes over all positions",
            cure="use the circuit itself, not its example on one prompt; attribute with positions summed",
        )
    sites = list(dict.fromkeys(node.site for node in parsed if node.site is not None))
    here = task.at_sites(sites) if sites else task.with_saes({})
    if all(node.kind in ("feature", "error") for node in parsed):
        return FeatureGraph(here, tuple(nodes))
    return component_graph(here, [str(node) for node in parsed if node.kind == "feature"])


def graph_of_circuit(circuit: CircuitGraph, task: Task) -> Graph:
    """The graph that a circuit is run in. A feature circuit is run at every site that it was chosen from:
    what else happens there is outside it.

    Raises:
        UserError: an empty circuit, nodes at single positions, or missing SAEs.
    """
    members = member_nodes(circuit)
    graph = graph_of(members, task)
    chosen_from = list(dict.fromkeys([*circuit.conventions.get("sites", ()), *graph.task.saes]))
    if set(chosen_from) == set(graph.task.saes):
        return graph
    here = task.at_sites(chosen_from)
    if graph.unit == "nodes":
        return FeatureGraph(here, tuple(members))
    return component_graph(here, [node for node in members if parse_node(node).kind == "feature"])


def member_nodes(circuit: CircuitGraph) -> list[str]:
    """Ids of all nodes and slots but the metric.

    Raises:
        UserError: an empty circuit.
    """
    nodes = [node for node in circuit.nodes if node.kind != "target"]
    if not nodes:
        raise UserError(
            f"the circuit of {circuit.behaviour or 'this behaviour'} is empty", expected="at least one node"
        )
    return [node.id for node in nodes]


def member_edges(circuit: CircuitGraph) -> tuple[tuple[str, str], ...]:
    """The edges (source, slot) of a component or mixed circuit, without the links from slots to heads."""
    return tuple((edge.source, edge.target) for edge in circuit.edges if not parse_node(edge.source).is_slot)


def members(circuit: CircuitGraph, graph: Graph) -> Collection[Any]:
    """What a circuit keeps in a graph: its nodes, or its edges and, where it has none, all edges between its
    nodes.
    """
    if graph.unit == "nodes":
        return member_nodes(circuit)
    return member_edges(circuit) or [node for node in member_nodes(circuit) if not parse_node(node).is_slot]
