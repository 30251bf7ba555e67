"""From effects to a circuit: choose nodes, draw the edges among them, verify the nodes by real patches.

A node is chosen when its mean effect over the find prompts is at least `threshold` times the mean
|metric(clean) - metric(corrupt)| and its bootstrap interval excludes 0. Sites lie behind one another, and all
that reaches the metric passes through every one of them, so a circuit is as good as its thinnest site: where
only `max_nodes` may stay they are dealt out evenly, each to the site that so far covers the smallest share of
its own effect; the strongest certain node of a site always stays. Edges run between adjacent sites and from
the last site to the metric, and are kept by the same rule with `edge_threshold`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.attribution.edges import counted_edge_effects
from emocircuits.attribution.methods.attribution_patching import attribution_patching
from emocircuits.attribution.methods.exact_patching import exact_patching
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import record_clean
from emocircuits.graphs.nodes import nodes_by_site
from emocircuits.names import TARGET, parse_node, short_site
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.pairs import Metric, PairBatch, chunks
from emocircuits.sae.dictionary import open_dictionaries


def select_nodes(
    result: AttributionResult, *, threshold: float = 0.01, max_nodes: int | None = None, seed: int = 0
) -> tuple[str, ...]:
    """The nodes of the circuit, strongest first.

    Args:
        result: effects on the find prompts.
        threshold: share of the mean |metric(clean) - metric(corrupt)| a mean effect must reach.
        max_nodes: at most this many.
        seed: seed of the bootstrap.

    Raises:
        UserError: no node passes; the message says which share the strongest has.
    """
    mean = result.effects.mean(0)
    low, high = bootstrap_interval(result.effects, seed=seed)
    scale = metric_scale(result)
    certain = (low > 0) | (high < 0)
    chosen = certain & (np.abs(mean) >= threshold * scale)
    if not chosen.any():
        strongest = float(np.abs(mean).max(initial=0)) / max(scale, 1e-30)
        raise UserError(
            f"no node passes the threshold {threshold} with an interval that excludes 0",
            expected=f"a lower threshold (the strongest mean effect is {strongest:.4g}) or more prompts",
        )
    sites = np.array([parse_node(node).site for node in result.nodes])
    kept = dealt_out(np.where(certain, np.abs(mean), 0.0), chosen, sites, max_nodes or len(mean))
    return tuple(result.nodes[place] for place in sorted(kept, key=lambda place: (-abs(mean[place]), place)))


def dealt_out(
    strength: Float[np.ndarray, "node"], chosen: Bool[np.ndarray, "node"], sites: np.ndarray, most: int
) -> list[int]:
    """Places of the nodes that stay, in the order of being dealt: one per site, then always the next
    strongest chosen one of the site that covers the smallest share of its strength.
    """
    queues, total = {}, {}
    for site in dict.fromkeys(sites):
        here = np.flatnonzero(sites == site)
        order = here[np.argsort(-strength[here], kind="stable")]
        queues[site] = [
            int(place)
            for rank, place in enumerate(order)
            if chosen[place] or (rank == 0 and strength[place] > 0)
        ]
        total[site] = max(float(strength[here].sum()), 1e-30)
    covered = dict.fromkeys(queues, 0.0)
    kept: list[int] = []
    while len(kept) < most and any(queues.values()):
        site = min((site for site in queues if queues[site]), key=covered.__getitem__)
        place = queues[site].pop(0)
        kept.append(place)
        covered[site] += float(strength[place]) / total[site]
    return kept


def metric_scale(result: AttributionResult) -> float:
    """Mean |metric(clean) - metric(corrupt)|: what thresholds are shares of."""
    return float(np.abs(result.metric_clean - result.metric_corrupt).mean())


def with_edges(
    result: AttributionResult,
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    nodes: Sequence[str],
    *,
    verify: Sequence[str] = (),
    steps: int = 0,
    max_tokens: int = 4096,
) -> AttributionResult:
    """The same result with the edges among `nodes` and the exact effects of `verify` filled in.

    Args:
        result: node effects on the same prompts.
        model: any TransformerLens object.
        saes: site -> SAE.
        batches: the prompts of `result`.
        metric: the metric of `result`.
        nodes: nodes to join; all must be in `result`.
        verify: nodes to patch for real.
        steps: see `edge_effects`; as many as the effects of `result` were integrated over.
        max_tokens: tokens per pass.
    """
    place = {node: number for number, node in enumerate(result.nodes)}
    missing = [node for node in (*nodes, *verify) if node not in place]
    if missing:
        raise UserError(f"the node {missing[0]} is not in the attribution result")
    ordered = sorted(nodes, key=place.__getitem__)
    edges, spent = counted_edge_effects(
        model, saes, batches, metric, ordered, steps=steps, max_tokens=max_tokens
    )
    numbers = np.array([place[node] for node in ordered] + [len(result.nodes)])
    counts = np.zeros(len(result.nodes), dtype=np.int64)
    counts[numbers[:-1]] = np.diff(edges.indptr)
    edges = replace(edges, indptr=np.concatenate([[0], np.cumsum(counts)]), targets=numbers[edges.targets])
    verified = np.full(len(result.nodes), np.nan, dtype=result.effects.dtype)
    passes = result.passes + spent
    if verify:
        exact = exact_patching(model, saes, batches, metric, nodes=list(verify), max_tokens=max_tokens)
        verified[[place[node] for node in verify]] = exact.effects.mean(0)
        passes += exact.passes
    return replace(result, edges=edges, verified=verified, passes=passes)


def circuit_from_attribution(
    result: AttributionResult,
    nodes: Sequence[str],
    *,
    edge_threshold: float = 0.0025,
    seed: int = 0,
    activations: Mapping[str, float] | None = None,
    details: Mapping[str, dict[str, Any]] | None = None,
    target_label: str = "",
    **about: Any,
) -> CircuitGraph:
    """The circuit graph of chosen nodes; needs no model.

    Args:
        result: effects with edges (`with_edges`).
        nodes: the chosen nodes.
        edge_threshold: share of the mean |metric(clean) - metric(corrupt)| a mean edge effect must reach.
        seed: seed of the bootstrap.
        activations: node -> mean activation on clean prompts.
        details: node -> what a feature card shows.
        target_label: text of the metric's node.
        **about: further fields of `CircuitGraph` (scores, thresholds, provenance, example, …).
    """
    if result.edges is None:
        raise UserError("the attribution result has no edges", cure="fill them in with circuits.with_edges")
    place = {node: number for number, node in enumerate(result.nodes)}
    columns = [place[node] for node in nodes]
    low, high = bootstrap_interval(result.effects[:, columns], seed=seed)
    mean = result.effects[:, columns].mean(0)
    made = []
    for number, node in enumerate(nodes):
        made.append(
            Node.of(
                node,
                label=node_label(node),
                effect=mean[number],
                ci_low=low[number],
                ci_high=high[number],
                verified=measured(result.verified, columns[number]),
                activation=(activations or {}).get(node),
                details=dict((details or {}).get(node, {})),
            )
        )
    made.append(target_node(result, target_label, seed))
    edges = _edges(result, set(columns), edge_threshold * metric_scale(result), seed)
    thresholds = {"edge": edge_threshold, **about.pop("thresholds", {})}
    conventions = {
        **result.conventions,
        "edges": "between adjacent sites; part of the effect through the target node",
    }
    return CircuitGraph(
        result.behaviour, tuple(made), edges, thresholds=thresholds, conventions=conventions, **about
    )


def find_circuit(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    behaviour: str = "",
    threshold: float = 0.01,
    max_nodes: int | None = 60,
    edge_threshold: float = 0.0025,
    verify_nodes: int = 60,
    seed: int = 0,
    max_tokens: int = 4096,
) -> tuple[AttributionResult, CircuitGraph]:
    """Attribution, choice, edges and verification in one call.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE.
        batches: the find prompts.
        metric: logits -> one value per prompt.
        behaviour: name stored in both results.
        threshold: see `select_nodes`.
        max_nodes: see `select_nodes`.
        edge_threshold: see `circuit_from_attribution`.
        verify_nodes: how many of the strongest chosen nodes are patched for real.
        seed: seed of the bootstrap.
        max_tokens: tokens per pass.

    Returns:
        The effects of all nodes with edges and exact effects, and the circuit.
    """
    result = attribution_patching(model, saes, batches, metric, behaviour=behaviour, max_tokens=max_tokens)
    nodes = select_nodes(result, threshold=threshold, max_nodes=max_nodes, seed=seed)
    result = with_edges(
        result, model, saes, batches, metric, nodes, verify=nodes[:verify_nodes], max_tokens=max_tokens
    )
    circuit = circuit_from_attribution(
        result,
        nodes,
        edge_threshold=edge_threshold,
        seed=seed,
        activations=clean_activations(model, saes, batches, nodes),
        thresholds={"node": threshold, "max_nodes": max_nodes},
    )
    return result, circuit


@torch.no_grad()
def clean_activations(
    model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], nodes: Sequence[str]
) -> dict[str, float]:
    """Mean over clean prompts of each node's largest activation over positions (of an error node: of its
    norm).
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    groups = nodes_by_site(nodes, dictionaries)
    sums: dict[str, float] = dict.fromkeys(nodes, 0.0)
    count = 0
    for chunk in chunks(batches):
        streams = record_clean(model, dictionaries, chunk)
        count += len(chunk)
        for site, group in groups.items():
            features = dictionaries[site].encode(streams[site])
            error = (streams[site] - dictionaries[site].decode(features)).norm(dim=-1, keepdim=True)
            column = torch.where(group.feature < 0, features.shape[-1], group.feature)
            peaks = torch.cat([features, error], dim=-1)[..., column].amax(1).sum(0)
            for node, value in zip(group.ids, peaks.tolist(), strict=True):
                sums[node] += value
    return {node: value / count for node, value in sums.items()}


def node_label(text: str) -> str:
    """A short text for people, e.g. `resid_post.2 #123` or `error resid_post.2`."""
    node = parse_node(text)
    where = "" if node.position is None else f" @{node.position}"
    if node.kind == "feature":
        return f"{short_site(node.site)} #{node.feature}{where}"
    return f"error {short_site(node.site)}{where}" if node.kind == "error" else f"{text}"


def target_node(result: AttributionResult, label: str, seed: int) -> Node:
    """The metric, with the change that the circuit is to explain."""
    difference = result.metric_clean - result.metric_corrupt
    low, high = bootstrap_interval(difference, seed=seed)
    mean = float(difference.mean())
    return Node.of(
        TARGET, label=label or "log-odds", effect=mean, ci_low=float(low), ci_high=float(high), verified=mean
    )


def _edges(result: AttributionResult, columns: set[int], least: float, seed: int) -> tuple[Edge, ...]:
    edges = result.edges
    if not len(edges.targets):
        return ()
    names, source = (*result.nodes, TARGET), edges.sources
    mean = edges.effects.mean(0)
    low, high = bootstrap_interval(edges.effects, seed=seed)
    inside = np.isin(source, list(columns)) & (
        np.isin(edges.targets, list(columns)) | (edges.targets == len(result.nodes))
    )
    kept = inside & (np.abs(mean) >= least) & ((low > 0) | (high < 0))
    order = np.argsort(-np.abs(mean), kind="stable")
    return tuple(
        Edge(names[source[e]], names[edges.targets[e]], mean[e], low[e], high[e], measured(edges.verified, e))
        for e in order
        if kept[e]
    )


def measured(verified: Float[np.ndarray, "item"] | None, place: int | np.integer) -> float | None:
    """A verified effect, or None where nothing was measured."""
    return None if verified is None or np.isnan(verified[place]) else float(verified[place])
