"""The nodes of a circuit graph: their labels, intervals, and the metric that they all lead to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.names import TARGET, parse_node, short_site
from emocircuits.numerics import bootstrap_interval


def metric_scale(result: AttributionResult) -> float:
    """Mean |metric(clean) - metric(corrupt)|: what thresholds are shares of."""
    return float(np.abs(result.metric_clean - result.metric_corrupt).mean())


Number = float | np.floating


def circuit_node(
    node: str, effect: tuple[Number, Number, Number], verified: float | None = None, label: str = ""
) -> Node:
    """A node with its mean effect and the ends of its interval."""
    mean, low, high = map(float, effect)
    return Node.of(
        node, label=label or node_label(node), effect=mean, ci_low=low, ci_high=high, verified=verified
    )


def node_label(text: str) -> str:
    """A short text for people, e.g. `resid_post.2 #123` or `error resid_post.2`."""
    node = parse_node(text)
    where = "" if node.position is None else f" @{node.position}"
    if node.kind == "feature":
        return f"{short_site(node.site)} #{node.feature}{where}"
    return f"error {short_site(node.site)}{where}" if node.kind == "error" else text


def target_node(result: AttributionResult, seed: int) -> Node:
    """The metric, with the change that the circuit is to explain."""
    difference = result.metric_clean - result.metric_corrupt
    low, high = bootstrap_interval(difference, seed=seed)
    mean = float(difference.mean())
    return circuit_node(TARGET, (mean, float(low), float(high)), mean, "log-odds")


def measured(verified: Float[np.ndarray, "item"] | None, place: int | np.integer) -> float | None:
    """A verified effect, or None where nothing was measured."""
    return None if verified is None or np.isnan(verified[place]) else float(verified[place])


def annotated(
    circuit: CircuitGraph,
    *,
    labels: Mapping[str, str] | None = None,
    activations: Mapping[str, float] | None = None,
    details: Mapping[str, dict[str, Any]] | None = None,
) -> CircuitGraph:
    """The same circuit with what is known of some of its nodes.

    Args:
        circuit: the circuit.
        labels: node -> a short text for people.
        activations: node -> mean activation on clean prompts.
        details: node -> what a feature card shows.
    """
    labels, activations, details = labels or {}, activations or {}, details or {}
    nodes = tuple(
        replace(
            node,
            label=labels.get(node.id) or node.label,
            activation=activations.get(node.id, node.activation),
            details=details.get(node.id, node.details),
        )
        for node in circuit.nodes
    )
    return replace(circuit, nodes=nodes)
