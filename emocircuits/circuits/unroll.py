"""The same circuit over the positions of one prompt pair, from the tokens to the metric: what a
viewer draws.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.attribution.edges import edge_effects
from emocircuits.attribution.methods.attribution_patching import attribution_patching
from emocircuits.attribution.methods.integrated_gradients import integrated_gradients
from emocircuits.circuits.build import node_label
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import record_clean
from emocircuits.names import TARGET, NodeId, format_node, parse_node
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.sae.dictionary import open_dictionaries, whole_stream

EMBEDDED = "blocks.0.hook_resid_pre"


@torch.no_grad()
def _activations(model: Any, dictionaries: Mapping[str, Any], pair: PairBatch) -> dict[str, torch.Tensor]:
    streams = record_clean(model, dictionaries, pair)
    return {site: dictionaries[site].encode(streams[site])[0] for site in dictionaries}


def unroll(
    model: Any,
    saes: Mapping[str, Any],
    pair: PairBatch,
    metric: Metric,
    circuit: CircuitGraph,
    tokens: Sequence[str],
    *,
    share: float = 0.01,
    edge_share: float = 0.005,
    max_nodes: int = 80,
    steps: int = 0,
    max_tokens: int = 4096,
) -> CircuitGraph:
    """Unrolls a circuit over one prompt pair.

    Every node of the circuit becomes one node per position where it matters on this pair; tokens that differ
    between clean and corrupt are nodes too (their effect is that of their embedding). Edges run token ->
    first site -> … -> metric.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE.
        pair: exactly one prompt pair.
        metric: logits -> one value per prompt.
        circuit: the circuit over all positions.
        tokens: texts of the clean tokens.
        share: least |effect| of a node, as a share of |metric(clean) - metric(corrupt)| on this pair.
        edge_share: the same for edges.
        max_nodes: at most this many feature and error nodes.
        steps: midpoints of integrated gradients; 0 takes the gradient of the corrupt run.
        max_tokens: tokens per pass.

    Raises:
        UserError: not one pair, other tokens, or a circuit that does nothing on this pair.
    """
    if len(pair) != 1 or len(tokens) != pair.clean.shape[1]:
        raise UserError(
            f"{len(pair)} pairs of {pair.clean.shape[1]} tokens with {len(tokens)} token texts",
            expected="one pair and a text for each of its tokens",
        )
    sites = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    dtype = next(iter(sites.values())).decoder.dtype
    sites = {EMBEDDED: whole_stream(EMBEDDED, next(iter(sites.values())).d_in, dtype), **sites}
    method = partial(integrated_gradients, steps=steps) if steps else attribution_patching
    found = method(model, sites, [pair], metric, behaviour=circuit.behaviour, positions=True)
    scale = abs(float(found.metric_clean[0] - found.metric_corrupt[0]))
    effects = dict(zip(found.nodes, found.effects[0].tolist(), strict=True))
    members = {node.id for node in circuit.nodes}
    own = sorted(
        (node for node in found.nodes if _without_position(node) in members and effects[node]),
        key=lambda node: -abs(effects[node]),
    )
    if not own:
        raise UserError("no node of the circuit does anything on this pair", cure="choose another pair")
    chosen = [node for node in own if abs(effects[node]) >= share * scale][:max_nodes] or own[:1]
    words = [
        node
        for node in found.nodes
        if parse_node(node).site == EMBEDDED and abs(effects[node]) >= share * scale
    ]
    ordered = [*words, *sorted(chosen, key=found.nodes.index)]
    edges = edge_effects(model, sites, [pair], metric, ordered, steps=steps, max_tokens=max_tokens)
    features = _activations(model, sites, pair)
    parents = {node.id: node for node in circuit.nodes}
    nodes = [_token(node, effects[node], tokens) for node in words]
    nodes += [
        _node(node, effects[node], features, parents[_without_position(node)])
        for node in ordered[len(words) :]
    ]
    change = float(found.metric_clean[0] - found.metric_corrupt[0])
    target = next((node for node in circuit.nodes if node.kind == "target"), Node.of(TARGET))
    nodes.append(Node.of(TARGET, label=target.label, effect=change, verified=change))
    names = [*(_token_id(node) for node in words), *ordered[len(words) :], TARGET]
    source = edges.sources
    drawn = tuple(
        Edge(names[s], names[t], w)
        for s, t, w in zip(source, edges.targets, edges.effects[0], strict=True)
        if abs(w) >= edge_share * scale
    )
    return CircuitGraph(
        circuit.behaviour,
        tuple(nodes),
        drawn,
        tokens=tuple(tokens),
        conventions=circuit.conventions,
        thresholds={"node": share, "edge": edge_share, "max_nodes": max_nodes},
        scores={
            "metric_clean": float(found.metric_clean[0]),
            "metric_corrupt": float(found.metric_corrupt[0]),
        },
        provenance=circuit.provenance,
    )


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
