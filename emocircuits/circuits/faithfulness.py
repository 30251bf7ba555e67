"""Is the circuit enough? Run the clean prompts with everything outside the circuit ablated, and ask how much
of the behaviour stays.

    F(C) = (m(C) - m(empty)) / (m(full) - m(empty))         m: mean metric over held-out prompts

m(C) sets every feature and error node outside C, at every site, to its baseline (`interventions.ablate`; by
default its value on the corrupt prompt) while those inside are computed live, so m(full) = m(clean) and, with
the resample baseline, m(empty) = m(corrupt). Circuits of components are run edge by edge (`graph_runs`). CPR
and CMD are MIB's areas (Mueller et al. 2025): the trapezoid of F, and of |1 - F|, over the share k of nodes
or edges kept, k in 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100 %; CPR ranks by signed effect, CMD by absolute
effect. Their k axis is linear, so most of the area is circuits above 5 %; `log_cpr` and `log_cmd` average the
same curves over log k.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.circuits.feature_runs import FeatureRuns
from emocircuits.errors import UserError
from emocircuits.names import parse_node
from emocircuits.numerics import generator
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class NodeSet:
    """A set of feature and error nodes over all positions.

    Attributes:
        nodes: node ids.
        complement: whether all other nodes are meant.
    """

    nodes: frozenset[str] = frozenset()
    complement: bool = False


EVERYTHING = NodeSet(complement=True)


def circuit_metric(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    circuits: Sequence[NodeSet | Collection[str]],
    *,
    ablation: str = "resample",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Float[np.ndarray, "circuit prompt"]:
    """m(C) of several circuits, per prompt; circuits and prompts run side by side along the batch axis.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; a node outside these sites is an error, everything at these sites outside the
            circuit is ablated.
        batches: held-out prompts.
        metric: logits -> one value per prompt.
        circuits: sets of feature and error node ids (over all positions).
        ablation: "resample", "mean" or "zero".
        max_tokens: tokens per pass.

    Returns:
        The metric, prompts in the order of their index.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    masks = node_masks(
        [c if isinstance(c, NodeSet) else NodeSet(frozenset(c)) for c in circuits], dictionaries
    )
    return FeatureRuns(model, dictionaries, batches, metric, max_tokens).metric(masks, ablation)


def areas(signed: Float[np.ndarray, "share"], absolute: Float[np.ndarray, "share"]) -> dict[str, float]:
    """CPR and CMD over MIB's shares, and the same averaged over log share (1.0 and 0.0 are perfect)."""
    share, log_share = np.array(MIB_SHARES), np.log10(MIB_SHARES)
    span = log_share[-1] - log_share[0]
    missing = np.abs(1 - absolute)
    return {
        "cpr": float(np.trapezoid(signed, share)),
        "cmd": float(np.trapezoid(missing, share)),
        "log_cpr": float(np.trapezoid(signed, log_share) / span),
        "log_cmd": float(np.trapezoid(missing, log_share) / span),
    }


def faithfulness_interval(
    circuit: Float[np.ndarray, "prompt"],
    full: Float[np.ndarray, "prompt"],
    empty: Float[np.ndarray, "prompt"],
    *,
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap over prompts of F, a ratio of means (numerator and denominator resampled
    together).
    """
    count = len(full)
    weights = generator(seed, "faithfulness").multinomial(count, np.full(count, 1 / count), size=n)
    gaps = weights @ (full - empty)
    ratios = (weights @ (circuit - empty)) / np.where(gaps == 0, np.nan, gaps)
    low, high = np.nanquantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def refuse_overlap(find: Sequence[PairBatch], score: Sequence[PairBatch]) -> None:
    """Raises UserError when a clean prompt is in both sets: scores on prompts that chose the circuit mean
    nothing.
    """
    seen = {tuple(row) for batch in find for row in batch.clean.tolist()}
    shared = sum(tuple(row) in seen for batch in score for row in batch.clean.tolist())
    if shared:
        raise UserError(
            f"{shared} of the prompts for scoring were also used to find the circuit",
            expected="disjoint prompts",
        )


def node_masks(circuits: Sequence[NodeSet], dictionaries: Mapping[str, Dictionary]) -> dict:
    """site -> which features and whether the error is kept, per circuit.

    Raises:
        UserError: a node of another kind, at one position, or at a site without dictionary.
    """
    masks = {
        site: tuple(
            torch.zeros(len(circuits), *width, dtype=torch.bool, device=d.decoder.device)
            for width in ((d.d_sae,), ())
        )
        for site, d in dictionaries.items()
    }
    parsed = {text: parse_node(text) for text in set().union(*(circuit.nodes for circuit in circuits))}
    for row, circuit in enumerate(circuits):
        for text in circuit.nodes:
            node = parsed[text]
            if node.site not in masks or node.position is not None or node.kind not in ("feature", "error"):
                raise UserError(
                    f"the node {text} of a circuit to be scored",
                    expected=f"feature and error nodes over all positions at {', '.join(masks)}",
                )
            if node.kind == "error":
                masks[node.site][1][row] = True
            else:
                masks[node.site][0][row, node.feature] = True
        if circuit.complement:
            for features, error in masks.values():
                features[row], error[row] = ~features[row], ~error[row]
    return masks
