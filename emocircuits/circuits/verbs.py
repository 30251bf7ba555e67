"""What a `CircuitGraph` can do once circuits can be run: come from an attribution, be verified, be judged.

These are methods of the class (`emocircuits.circuits` attaches them), written here because artifacts know of
no model.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.circuits.build import circuit_from_attribution, select_nodes
from emocircuits.circuits.candidates import ERRORS, dictionaries_at, edge_choice, graph_of
from emocircuits.circuits.faithfulness import EVERYTHING, NodeSet, faithfulness_interval, node_masks
from emocircuits.circuits.feature_runs import FeatureRuns
from emocircuits.circuits.from_components import component_circuit
from emocircuits.circuits.graph_runs import GraphRuns
from emocircuits.circuits.members import member_edges, member_nodes, member_sites
from emocircuits.errors import UserError, unknown
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.names import parse_node
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch

NODE_THRESHOLD, EDGE_THRESHOLD = 0.01, 0.0025


class Faithfulness(float):
    """F of a circuit, a number with what it was made of.

    Attributes:
        ci_low, ci_high: bootstrap interval over prompts.
        m_circuit, m_full, m_empty: mean metric with the circuit, with everything and with nothing kept.
        values: metric per prompt with the circuit kept.
        ablation: `resample`, `mean` or `zero`.
    """

    ci_low: float
    ci_high: float
    m_circuit: float
    m_full: float
    m_empty: float
    values: np.ndarray
    ablation: str

    @classmethod
    def of(cls, circuit: np.ndarray, full: np.ndarray, empty: np.ndarray, ablation: str) -> "Faithfulness":
        """From the metric per prompt.

        Raises:
            UserError: full and empty do not differ.
        """
        circuit, full, empty = (np.asarray(values, dtype=np.float64) for values in (circuit, full, empty))
        gap = full.mean() - empty.mean()
        if abs(gap) < 1e-6 * max(1.0, float(np.abs(full).mean())):
            raise UserError(
                "the metric is the same with everything and with nothing "
                f"({full.mean():.4g}; {ablation} ablation)",
                expected="prompts on which clean and corrupt differ",
            )
        made = cls((circuit.mean() - empty.mean()) / gap)
        made.ci_low, made.ci_high = faithfulness_interval(circuit, full, empty)
        made.m_circuit, made.m_full, made.m_empty = (
            float(circuit.mean()),
            float(full.mean()),
            float(empty.mean()),
        )
        made.values, made.ablation = circuit, ablation
        return made

    def __repr__(self) -> str:
        return (
            f"Faithfulness({float(self):.3f}, 95 % interval {self.ci_low:.3f} to {self.ci_high:.3f}, "
            f"{self.ablation} ablation)"
        )


def from_attribution(
    result: AttributionResult,
    *,
    node_threshold: float = NODE_THRESHOLD,
    edge_threshold: float = EDGE_THRESHOLD,
    max_nodes: int | None = None,
    connected: bool = True,
    seed: int = 0,
    activations: Mapping[str, float] | None = None,
    details: Mapping[str, dict[str, Any]] | None = None,
    target_label: str = "",
    **about: Any,
) -> CircuitGraph:
    """The circuit of what is strong for certain: needs no model.

    Nodes and edges stay whose mean effect reaches its threshold and whose bootstrap interval over prompts
    excludes 0. In a feature result the nodes decide (`select_nodes`: each site keeps its strongest), and
    edges are drawn among them; in a component or mixed result the edges decide, the slots of heads become
    nodes (`a1.h0<k>`) linked to their head, and what lies on no path from the embeddings to the logits is
    left out.

    Args:
        result: what `attribute` found.
        node_threshold: share of the mean |metric(clean) - metric(corrupt)| a mean node effect must reach.
        edge_threshold: the same for edges.
        max_nodes: at most this many nodes (slots do not count).
        connected: whether components off every path are left out.
        seed: seed of the bootstrap.
        activations: node -> mean activation on clean prompts.
        details: node -> what a feature card shows.
        target_label: text of the metric's node.
        **about: further fields of `CircuitGraph` (scores, provenance, …).

    Raises:
        UserError: nothing passes the thresholds; the message says how strong the strongest is.
    """
    kinds = {parse_node(node).kind for node in result.nodes}
    sites = {
        "sites": list(
            dict.fromkeys(node.site for node in map(parse_node, result.nodes) if node.site is not None)
        )
    }
    given = {
        "seed": seed,
        "activations": activations,
        "details": details,
        "target_label": target_label,
        **about,
    }
    if kinds <= {"feature", "error"}:
        nodes = select_nodes(result, threshold=node_threshold, max_nodes=max_nodes, seed=seed)
        if result.edges is None:
            none = np.zeros(0, dtype=np.int64)
            result = replace(
                result,
                edges=EdgeEffects.of(none, none, np.zeros((len(result.metric_clean), 0)), len(result.nodes)),
            )
        given["thresholds"] = {"node": node_threshold, "max_nodes": max_nodes, **given.pop("thresholds", {})}
        circuit = circuit_from_attribution(result, nodes, edge_threshold=edge_threshold, **given)
    else:
        circuit = component_circuit(
            result,
            node_threshold=node_threshold,
            edge_threshold=edge_threshold,
            max_nodes=max_nodes,
            connected=connected,
            **given,
        )
    return replace(circuit, conventions={**circuit.conventions, **sites})


def faithfulness(
    circuit: CircuitGraph,
    model: Any,
    clean: Int[torch.Tensor, "..."],
    corrupt: Int[torch.Tensor, "..."] | None,
    metric: Metric,
    saes: Mapping[str, Any] | None = None,
    ablation: str = "resample",
    *,
    errors: str = "chosen",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Faithfulness:
    """How much of the metric's change is left when everything outside the circuit is ablated, for real.

    A circuit of features is run node by node at every site it was chosen from; a component or mixed circuit
    edge by edge (`circuits.graph_runs`), or, where it has no edges, with all edges between its nodes.

    Args:
        circuit: the circuit.
        model: any TransformerLens object.
        clean, corrupt: token ids (prompt, pos), pairs row by row; best not those the circuit was found on.
            `mean` and `zero` need no pairs: `corrupt` may have any shape for `mean` (it is averaged over),
            and be None for `zero`.
        metric: logits -> one value per prompt.
        saes: site -> SAE, where the circuit has features.
        ablation: `resample`, `mean` or `zero`.
        errors: `chosen` (as the circuit says), `kept` or `ablated` (all error nodes).
        max_tokens: tokens per pass.

    Returns:
        A float with its interval.

    Raises:
        UserError: an empty circuit, nodes at single positions, missing SAEs, prompts that do not fit, or a
            metric that is the same with everything and with nothing.
    """
    ABLATIONS.get(ablation)
    if errors not in ERRORS:
        raise unknown("way to count errors", errors, ERRORS)
    members = member_nodes(circuit)
    batches, reference = _prompts(clean, corrupt, ablation)
    dictionaries = dictionaries_at(model, member_sites(circuit), saes)
    if all(parse_node(node).kind in ("feature", "error") for node in members):
        masks = node_masks([NodeSet(frozenset(members)), EVERYTHING, NodeSet()], dictionaries)
        if errors != "chosen":
            for _, error in masks.values():
                error[0] = errors == "kept"
        runs = FeatureRuns(model, dictionaries, batches, metric, max_tokens, reference)
        return Faithfulness.of(*runs.metric(masks, ablation), ablation)
    graph = graph_of(model, members, dictionaries, batches)
    edges = member_edges(circuit)
    kept = edge_choice(graph, edges or [node for node in members if "<" not in node], errors)
    runs = GraphRuns(graph, dictionaries, max_tokens)
    values = runs.metric(
        batches, metric, np.stack([kept, np.zeros_like(kept)]), ablation, mean_over=reference
    )
    return Faithfulness.of(values[0], runs.clean_metric(batches, metric), values[1], ablation)


def _prompts(
    clean: torch.Tensor, corrupt: torch.Tensor | None, ablation: str
) -> tuple[list[PairBatch], list[PairBatch] | None]:
    """The prompts as one batch, and what `mean` averages over where that is something else."""
    index = torch.arange(len(clean))
    if corrupt is None and ablation != "zero":
        raise UserError(
            f"no corrupt prompts for {ablation} ablation",
            expected="token ids (prompt, pos)",
            cure="zero ablation needs none",
        )
    if ablation == "resample" or (corrupt is not None and clean.shape == corrupt.shape):
        return [PairBatch(clean, corrupt, index)], None
    reference = None if corrupt is None else [PairBatch(corrupt, corrupt, torch.arange(len(corrupt)))]
    return [PairBatch(clean, clean, index)], reference
