"""The same circuit over the positions of one prompt pair, from the tokens to the metric: what a
viewer draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.attribution.methods.gradients import feature_effects, graph_effects
from emocircuits.circuits.activations import feature_activations
from emocircuits.circuits.nodes import node_label
from emocircuits.errors import UserError
from emocircuits.graphs.features import FeatureGraph
from emocircuits.names import TARGET, NodeId, format_node, parse_node
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import whole_stream

EMBEDDED = "blocks.0.hook_resid_pre"


@dataclass(frozen=True)
class UnrollSettings:
    """How much of a circuit is drawn over the positions of one prompt.

    Attributes:
        share: least |effect| of a node, as a share of |metric(clean) - metric(corrupt)| on this pair.
        edge_share: the same for edges.
        max_nodes: at most this many feature and error nodes.
    """

    share: float = 0.01
    edge_share: float = 0.005
    max_nodes: int = 80


def unroll(
    circuit: CircuitGraph,
    task: Task,
    pair: PairBatch,
    tokens: Sequence[str],
    settings: UnrollSettings | None = None,
) -> CircuitGraph:
    """Unrolls a circuit over one prompt pair.

    Every node of the circuit becomes one node per position where it matters on this pair; tokens that differ
    between clean and corrupt are nodes too (their effect is that of their embedding). Edges run token ->
    first site -> … -> metric.

    Args:
        circuit: the circuit over all positions; gradients are integrated over as many midpoints as its own.
        task: the metric, and SAEs of the sites that the circuit covers.
        pair: exactly one prompt pair.
        tokens: texts of the clean tokens.
        settings: how much of it is drawn; by default all of `UnrollSettings()`.

    Raises:
        UserError: not one pair, other tokens, or a circuit that does nothing on this pair.
    """
    if len(pair) != 1 or len(tokens) != pair.clean.shape[1]:
        raise UserError(
            f"{len(pair)} pairs of {pair.clean.shape[1]} tokens with {len(tokens)} token texts",
            expected="one pair and a text for each of its tokens",
        )
    settings, steps = settings or UnrollSettings(), int(circuit.conventions.get("steps", 0))
    here = _with_embeddings(task.on(PromptPairs((pair,))))
    effects_of = feature_effects(here, {}, steps=steps, positions=True)
    change = float(effects_of.metric_clean[0] - effects_of.metric_corrupt[0])
    least, effects = (
        settings.share * abs(change),
        dict(zip(effects_of.nodes, effects_of.effects[0].tolist(), strict=True)),
    )
    members = {node.id for node in circuit.nodes}
    own = [node for node in effects_of.nodes if _without_position(node) in members and effects[node]]
    if not own:
        raise UserError("no node of the circuit does anything on this pair", cure="choose another pair")
    own = sorted(own, key=lambda node: -abs(effects[node]))
    chosen = [node for node in own if abs(effects[node]) >= least][: settings.max_nodes] or own[:1]
    words = [
        node for node in effects_of.nodes if parse_node(node).site == EMBEDDED and abs(effects[node]) >= least
    ]
    ordered = (*words, *sorted(chosen, key=effects_of.nodes.index))
    drawn = graph_effects(FeatureGraph(here, ordered), {}, steps=steps).edges
    features = feature_activations(here, pair.clean)
    parents = {node.id: node for node in circuit.nodes}
    nodes = [_token(node, effects[node], tokens) for node in words]
    nodes += [
        _node(node, effects[node], features, parents[_without_position(node)])
        for node in ordered[len(words) :]
    ]
    target = next((node for node in circuit.nodes if node.kind == "target"), Node.of(TARGET))
    nodes.append(Node.of(TARGET, label=target.label, effect=change, verified=change))
    names = [*(_token_id(node) for node in words), *ordered[len(words) :], TARGET]
    edges = tuple(
        Edge(names[source], names[end], weight)
        for source, end, weight in zip(drawn.sources, drawn.targets, drawn.effects[0], strict=True)
        if weight and abs(weight) >= settings.edge_share * abs(change)
    )
    return CircuitGraph(
        circuit.behaviour,
        tuple(nodes),
        edges,
        tokens=tuple(tokens),
        conventions=circuit.conventions,
        thresholds={
            "node": settings.share,
            "edge": settings.edge_share,
            "max_nodes": settings.max_nodes,
        },
        scores={
            "metric_clean": float(effects_of.metric_clean[0]),
            "metric_corrupt": float(effects_of.metric_corrupt[0]),
        },
        provenance=circuit.provenance,
    )


def _with_embeddings(task: Task) -> Task:
    """The same with the embeddings as a site whose whole stream is an error node."""
    first = next(iter(task.dictionaries.values()))
    return task.with_saes({EMBEDDED: whole_stream(EMBEDDED, first.d_in, first.decoder.dtype), **task.saes})


def _without_position(text: str) -> str:
    return format_node(parse_node(text).at(None))


def _token_id(text: str) -> str:
    return format_node(NodeId("token", position=parse_node(text).position))


def _token(text: str, effect: float, tokens: Sequence[str]) -> Node:
    position = parse_node(text).position
    return Node.of(NodeId("token", position=position), label=tokens[position], effect=effect)


def _node(text: str, effect: float, features: Mapping[str, torch.Tensor], parent: Node) -> Node:
    node = parse_node(text)
    activation = None if node.feature is None else float(features[node.site][node.position, node.feature])
    label = f"{parent.label or node_label(parent.id)} @{node.position}"
    return Node.of(text, label=label, effect=effect, activation=activation, details=parent.details)
