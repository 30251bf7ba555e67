"""Is the circuit enough? Run the clean prompts with everything outside the circuit ablated, and ask how much
of the behaviour stays.

    F(C) = (m(C) - m(empty)) / (m(full) - m(empty))         m: mean metric over held-out prompts

m(C) sets every feature and error node outside C, at every site, to its baseline (`interventions.ablate`; by
default its value on the corrupt prompt) while those inside are computed live, so m(full) = m(clean) and, with
the resample baseline, m(empty) = m(corrupt). Circuits of components are run edge by edge
(`graphs.component_circuits`). CPR and CMD are MIB's areas (Mueller et al. 2025): the trapezoid of F, and of
|1 - F|, over the share k of nodes or edges kept, k in 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100 %; CPR ranks by
signed effect, CMD by absolute effect. Their k axis is linear, so most of the area is circuits above 5 %;
`log_cpr` and `log_cmd` average the same curves over log k.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.artifacts.answers import Faithfulness
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.circuits.candidates import graph_of_circuit, members
from emocircuits.errors import UserError, unknown
from emocircuits.graphs.feature_circuits import FeatureCircuits, Masks
from emocircuits.graphs.graph import ERRORS
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.names import parse_node
from emocircuits.numerics import generator
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def faithfulness(
    circuit: CircuitGraph,
    task: Task,
    *,
    ablation: str = "resample",
    errors: str = "chosen",
    mean_over: PromptPairs | None = None,
) -> Faithfulness:
    """How much of the metric's change is left when everything outside the circuit is ablated, for real.

    A circuit of features is run node by node at every site it was chosen from; a component or mixed circuit
    edge by edge, or, where it has no edges, with all edges between its nodes.

    Args:
        circuit: the circuit.
        task: the prompts, best not those the circuit was found on, the metric, and SAEs where the circuit has
            features.
        ablation: a member of `ABLATIONS`: `resample`, `mean`, `zero` or a new one.
        errors: `chosen` (as the circuit says), `kept` or `ablated` (all error nodes).
        mean_over: prompts over whose corrupt sides means are taken; by default the task's.

    Returns:
        A float with its interval.

    Raises:
        UserError: an empty circuit, nodes at single positions, missing SAEs, or a metric that is the same
            with everything and with nothing.
    """
    ABLATIONS.get(ablation)
    if errors not in ERRORS:
        raise unknown("way to count errors", errors, ERRORS)
    graph = graph_of_circuit(circuit, task)
    runner = replace(graph.runner(), mean_over=mean_over)
    kept = graph.choice(members(circuit, graph))
    values = runner.run(np.stack([kept]), ablation=ablation, errors=errors)[0]
    ends = np.stack([np.zeros_like(kept), np.ones_like(kept)])
    empty, full = runner.run(ends, np.array([False, True]), ablation=ablation)
    return measured_faithfulness(values, full, empty, ablation)


def measured_faithfulness(
    circuit: Float[np.ndarray, "prompt"],
    full: Float[np.ndarray, "prompt"],
    empty: Float[np.ndarray, "prompt"],
    ablation: str,
) -> Faithfulness:
    """F from the metric per prompt.

    Raises:
        UserError: full and empty do not differ.
    """
    circuit, full, empty = (np.asarray(values, dtype=np.float64) for values in (circuit, full, empty))
    refuse_no_gap(full, empty, ablation)
    f = Faithfulness((circuit.mean() - empty.mean()) / (full.mean() - empty.mean()))
    f.ci_low, f.ci_high = faithfulness_interval(circuit, full, empty)
    f.m_circuit, f.m_full, f.m_empty = (float(values.mean()) for values in (circuit, full, empty))
    f.values, f.ablation = circuit, ablation
    return f


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
    task: Task, circuits: Sequence[NodeSet | Collection[str]], *, ablation: str = "resample"
) -> Float[np.ndarray, "circuit prompt"]:
    """m(C) of several feature circuits, per prompt; circuits and prompts run side by side.

    Args:
        task: the prompts, the metric and the SAEs; everything at their sites outside a circuit is ablated.
        circuits: sets of feature and error node ids (over all positions).
        ablation: a member of `ABLATIONS`.

    Returns:
        The metric, prompts in the order of their index.

    Raises:
        UserError: a node of another kind, at one position, or at a site without SAE.
    """
    sets = [one if isinstance(one, NodeSet) else NodeSet(frozenset(one)) for one in circuits]
    return FeatureCircuits(task, ()).run_masks(node_masks(sets, task), ablation)


def node_masks(circuits: Sequence[NodeSet], task: Task) -> Masks:
    """site -> which features and whether the error is kept, per circuit.

    Raises:
        UserError: a node of another kind, at one position, or at a site without SAE.
    """
    masks = {
        site: tuple(
            torch.zeros(len(circuits), *width, dtype=torch.bool, device=dictionary.decoder.device)
            for width in ((dictionary.d_sae,), ())
        )
        for site, dictionary in task.dictionaries.items()
    }
    parsed = {text: parse_node(text) for text in set().union(*(circuit.nodes for circuit in circuits))}
    for row, circuit in enumerate(circuits):
        for text in circuit.nodes:
            node = parsed[text]
            if node.site not in masks or node.position is not None:
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


def refuse_no_gap(
    full: Float[np.ndarray, "prompt"], empty: Float[np.ndarray, "prompt"], ablation: str
) -> None:
    """Raises UserError where the metric does not differ between full and empty."""
    if abs(full.mean() - empty.mean()) < 1e-6 * max(1.0, float(np.abs(full).mean())):
        raise UserError(
            f"the metric is the same with all and with nothing ({full.mean():.4g}; {ablation} ablation)",
            expected="prompts on which clean and corrupt differ",
        )


def refuse_overlap(find: PromptPairs, score: PromptPairs) -> None:
    """Raises UserError when a clean prompt is in both sets: scores on prompts that chose the circuit mean
    nothing.
    """
    seen = {tuple(row) for group in find.groups for row in group.clean.tolist()}
    shared = sum(tuple(row) in seen for group in score.groups for row in group.clean.tolist())
    if shared:
        raise UserError(
            f"{shared} of the prompts for scoring were also used to find the circuit",
            expected="disjoint prompts",
        )
