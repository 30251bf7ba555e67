"""The strongest part of a circuit, for pictures that hold no more."""

from dataclasses import replace

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.limits import PICTURE_NODES


def strongest_part(graph: CircuitGraph, limit: int = PICTURE_NODES) -> CircuitGraph:
    """The circuit with only its `limit` strongest nodes (metric and tokens with a kept link always stay)."""
    if len(graph.nodes) <= limit:
        return graph
    ordered = sorted(graph.nodes, key=lambda node: (node.kind != "target", -abs(node.effect or 0.0)))
    kept = {node.id for node in ordered[:limit]}
    return replace(
        graph,
        nodes=tuple(node for node in graph.nodes if node.id in kept),
        edges=tuple(edge for edge in graph.edges if edge.source in kept and edge.target in kept),
        example=None,
        thresholds={**graph.thresholds, "shown_nodes": limit},
    )
