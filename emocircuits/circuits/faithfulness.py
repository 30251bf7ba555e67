"""Is the circuit enough? Run the clean prompts with everything outside the circuit ablated, and ask how much of the
behaviour stays.

    F(C) = (m(C) - m(empty)) / (m(full) - m(empty))         m: mean metric over held-out prompts

m(C) sets every feature and error node outside C, at every site, to its baseline (`interventions.ablate`; by default its
value on the corrupt prompt) while those inside are computed live, so m(full) = m(clean) and, with the resample baseline,
m(empty) = m(corrupt). Completeness is F of the complement (small is good). CPR and CMD are MIB's areas (Mueller et al.
2025): the trapezoid of F, and of |1 - F|, over the share k of nodes kept, k in 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100 %;
CPR ranks nodes by signed effect, CMD by absolute effect. Their k axis is linear, so most of the area is circuits above 5 %;
`log_cpr` and `log_cmd` average the same curves over log k.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.artifacts.attribution_result import AttributionResult
from emocircuits.artifacts.node_id import parse_node
from emocircuits.attribution.linearise import SiteRun, run_pair
from emocircuits.attribution.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks, measure
from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS, Baseline, Keep, ablate
from emocircuits.interventions.dictionary import Dictionary, open_dictionaries
from emocircuits.numerics import bootstrap_interval, generator
from emocircuits.progress import bar

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
    model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], metric: Metric,
    circuits: Sequence[NodeSet | Collection[str]], *, ablation: str = "resample", max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Float[np.ndarray, "circuit prompt"]:
    """m(C) of several circuits, per prompt; circuits and prompts run side by side along the batch axis.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; a node outside these sites is an error, everything at these sites outside the circuit is ablated.
        batches: held-out prompts.
        metric: logits -> one value per prompt.
        circuits: sets of feature and error node ids (over all positions).
        ablation: "resample", "mean" or "zero".
        max_tokens: tokens per pass.

    Returns:
        The metric, prompts in the order of their index.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    card = ABLATIONS.get(ablation)
    order = np.argsort(all_indices(batches), kind="stable")
    masks = _masks([c if isinstance(c, NodeSet) else NodeSet(frozenset(c)) for c in circuits], dictionaries)
    means = _means(model, dictionaries, batches, metric) if card.needs_mean else dict.fromkeys(dictionaries)
    done = []
    with torch.no_grad(), bar(len(circuits) * len(order), "circuits") as shown:
        for chunk in chunks(batches, max_tokens):
            run = run_pair(model, dictionaries, chunk, metric, gradient=False)
            baseline = {site: card.values(_corrupt(run.sites[site]), means[site]) for site in dictionaries}
            block = max(1, max_tokens // chunk.clean.numel())
            parts = []
            for start in range(0, len(circuits), block):
                now = slice(start, start + block)
                kept = {site: (features[now], error[now]) for site, (features, error) in masks.items()}
                parts.append(_run_block(model, saes, chunk, metric, kept, baseline))
                shown.update(parts[-1].numel())
            done.append(torch.cat(parts))
    return torch.cat(done, dim=1).numpy(force=True)[:, order]


def evaluate_circuit(
    model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], metric: Metric, result: AttributionResult,
    nodes: Sequence[str], *, found_on: Sequence[PairBatch], sizes: Sequence[int] = (), random_circuits: int = 5,
    curve_random: int = 1, ablation: str = "resample", seed: int = 0, max_tokens: int = DEFAULT_MAX_TOKENS,
) -> dict[str, Any]:
    """Scores of a circuit on held-out prompts, beside random circuits of the same size.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE.
        batches: the score prompts.
        metric: logits -> one value per prompt.
        result: effects on the find prompts; its nodes are the candidates and give the rankings.
        nodes: the circuit.
        found_on: the find prompts; a clean prompt in both sets is refused.
        sizes: circuit sizes of the curve, besides MIB's shares.
        random_circuits: random circuits of the circuit's size, matched per site; at least 5.
        curve_random: random circuits at each of `sizes`.
        ablation: "resample", "mean" or "zero".
        seed: seed of the draws and intervals.
        max_tokens: tokens per pass.

    Returns:
        Plain values: faithfulness, ci_low, ci_high, completeness, random_faithfulness (mean), random_max, random_values,
        curve [{size, share, faithfulness, ci_low, ci_high, random, random_low, random_high}], cpr, cmd, log_cpr, log_cmd,
        m_full, m_empty, candidates, nodes, share, prompts, ablation.

    Raises:
        UserError: overlapping prompts, too few random circuits, or a metric that does not differ between full and empty.
    """
    if random_circuits < 5:
        raise UserError(f"{random_circuits} random circuits", expected="at least 5")
    refuse_overlap(found_on, batches)
    mean = result.effects.mean(0)
    total = float((result.metric_clean - result.metric_corrupt).mean())
    by_size = [result.nodes[i] for i in np.argsort(-np.abs(mean), kind="stable")]
    by_sign = [result.nodes[i] for i in np.argsort(-mean * (np.sign(total) or 1.0), kind="stable")]
    n = len(by_size)
    mib = [min(n, round(share * n)) for share in MIB_SHARES]
    asked = sorted({min(n, int(size)) for size in sizes})
    plan: dict[Any, NodeSet | Collection[str]] = {"empty": (), "full": EVERYTHING, "circuit": nodes,
                                                  "rest": NodeSet(frozenset(nodes), complement=True)}
    plan |= {("random", draw): random_circuit(result, nodes, seed=seed, draw=draw) for draw in range(random_circuits)}
    plan |= {("size", size): by_size[:size] for size in {*asked, *mib}} | {("sign", size): by_sign[:size] for size in mib}
    plan |= {("drawn", size, draw): random_circuit(result, by_size[:size], seed=seed, draw=draw)
             for size in asked if size < n for draw in range(curve_random)}
    places, unique = _distinct(plan)
    values = circuit_metric(model, saes, batches, metric, unique, ablation=ablation, max_tokens=max_tokens)
    values = values.astype(np.float64)
    full, empty = values[places["full"]], values[places["empty"]]
    gap = full.mean() - empty.mean()
    if abs(gap) < 1e-6 * max(1.0, float(np.abs(full).mean())):
        raise UserError(f"the metric is the same with everything and with nothing ({full.mean():.4g})",
                        expected="prompts on which clean and corrupt differ")

    def f(key: Any) -> float:
        return float((values[places[key]].mean() - empty.mean()) / gap)

    def interval(key: Any) -> tuple[float, float]:
        return faithfulness_interval(values[places[key]], full, empty, seed=seed)

    drawn = [f(("random", draw)) for draw in range(random_circuits)]
    curve = []
    for size in sorted({*asked, *mib} - {0}):
        low, high = interval(("size", size))
        random = [f(("drawn", size, draw)) for draw in range(curve_random)] if size in asked and size < n else []
        curve.append({"size": size, "share": size / n, "faithfulness": f(("size", size)), "ci_low": low, "ci_high": high,
                      "random": float(np.mean(random)) if random else None, "random_low": min(random, default=None),
                      "random_high": max(random, default=None)})
    absolute = np.array([f(("size", size)) for size in mib])
    signed = np.array([f(("sign", size)) for size in mib])
    low, high = interval("circuit")
    return {
        "faithfulness": f("circuit"), "ci_low": low, "ci_high": high,
        "completeness": f("rest"),
        "random_faithfulness": float(np.mean(drawn)), "random_max": float(np.max(drawn)), "random_values": drawn,
        "curve": curve, **areas(signed, absolute), "m_full": float(full.mean()), "m_empty": float(empty.mean()),
        "candidates": n, "nodes": len(nodes), "share": len(nodes) / n, "prompts": len(full), "ablation": ablation}


def areas(signed: Float[np.ndarray, "share"], absolute: Float[np.ndarray, "share"]) -> dict[str, float]:
    """CPR and CMD over MIB's shares, and the same averaged over log share (1.0 and 0.0 are perfect)."""
    share, log_share = np.array(MIB_SHARES), np.log10(MIB_SHARES)
    span = log_share[-1] - log_share[0]
    missing = np.abs(1 - absolute)
    return {"cpr": float(np.trapezoid(signed, share)), "cmd": float(np.trapezoid(missing, share)),
            "log_cpr": float(np.trapezoid(signed, log_share) / span),
            "log_cmd": float(np.trapezoid(missing, log_share) / span)}


def faithfulness_interval(
    circuit: Float[np.ndarray, "prompt"], full: Float[np.ndarray, "prompt"], empty: Float[np.ndarray, "prompt"], *,
    seed: int = 0, n: int = 1000, level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap over prompts of F, a ratio of means (numerator and denominator resampled together)."""
    count = len(full)
    weights = generator(seed, "faithfulness").multinomial(count, np.full(count, 1 / count), size=n)
    gaps = weights @ (full - empty)
    ratios = (weights @ (circuit - empty)) / np.where(gaps == 0, np.nan, gaps)
    low, high = np.nanquantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def random_circuit(result: AttributionResult, nodes: Sequence[str], *, seed: int = 0, draw: int = 0) -> tuple[str, ...]:
    """As many candidates at each site as the circuit has there, drawn at random (error nodes are candidates like others)."""
    pools, wanted = defaultdict(list), defaultdict(int)
    for node in result.nodes:
        pools[parse_node(node).site].append(node)
    for node in nodes:
        wanted[parse_node(node).site] += 1
    rng = generator(seed, "random circuit", draw)
    return tuple(pools[site][int(i)] for site in sorted(wanted)
                 for i in rng.choice(len(pools[site]), size=min(wanted[site], len(pools[site])), replace=False))


def refuse_overlap(find: Sequence[PairBatch], score: Sequence[PairBatch]) -> None:
    """Raises UserError when a clean prompt is in both sets: scores on prompts that chose the circuit mean nothing."""
    seen = {tuple(row) for batch in find for row in batch.clean.tolist()}
    shared = sum(tuple(row) in seen for batch in score for row in batch.clean.tolist())
    if shared:
        raise UserError(f"{shared} of the prompts for scoring were also used to find the circuit",
                        expected="disjoint prompts")


def _run_block(
    model: Any, saes: Mapping[str, Any], chunk: PairBatch, metric: Metric, masks: Mapping, baseline: Mapping[str, Baseline]
) -> torch.Tensor:
    """Metric (circuit, prompt) of a block of circuits on one batch; rows are circuit-major."""
    n_prompts = len(chunk)
    n_circuits = len(next(iter(masks.values()))[0])

    def tiled(values: torch.Tensor) -> torch.Tensor:
        return values if len(values) == 1 else values.repeat(n_circuits, 1, 1)

    keep = {site: Keep(features.repeat_interleave(n_prompts, 0), error.repeat_interleave(n_prompts, 0))
            for site, (features, error) in masks.items()}
    base = {site: Baseline(tiled(values.features), tiled(values.error)) for site, values in baseline.items()}
    with ablate(model, saes, keep, base):
        logits = model(chunk.clean.repeat(n_circuits, 1))
    return measure(metric, logits, chunk.index.repeat(n_circuits)).reshape(n_circuits, n_prompts)


def _masks(circuits: Sequence[NodeSet], dictionaries: Mapping[str, Dictionary]) -> dict:
    masks = {site: tuple(torch.zeros(len(circuits), *width, dtype=torch.bool, device=d.decoder.device)
                         for width in ((d.d_sae,), ())) for site, d in dictionaries.items()}
    for row, circuit in enumerate(circuits):
        for text in circuit.nodes:
            node = parse_node(text)
            if node.site not in masks or node.position is not None or node.kind not in ("feature", "error"):
                raise UserError(f"the node {text} of a circuit to be scored",
                                expected=f"feature and error nodes over all positions at {', '.join(masks)}")
            if node.kind == "error":
                masks[node.site][1][row] = True
            else:
                masks[node.site][0][row, node.feature] = True
        if circuit.complement:
            for features, error in masks.values():
                features[row], error[row] = ~features[row], ~error[row]
    return masks


def _corrupt(run: SiteRun) -> Baseline:
    features = run.features_corrupt
    return Baseline(features, run.corrupt.to(features.dtype) - run.dictionary.decode(features))


def _means(model: Any, dictionaries: Mapping[str, Dictionary], batches: Sequence[PairBatch], metric: Metric) -> dict:
    sums: dict[str, list] = {site: [0.0, 0.0] for site in dictionaries}
    count = 0
    for chunk in chunks(batches):
        run = run_pair(model, dictionaries, chunk, metric, gradient=False)
        count += chunk.corrupt.numel()
        for site in dictionaries:
            values = _corrupt(run.sites[site])
            sums[site][0] = sums[site][0] + values.features.sum((0, 1), keepdim=True)
            sums[site][1] = sums[site][1] + values.error.sum((0, 1), keepdim=True)
    return {site: Baseline(features / count, error / count) for site, (features, error) in sums.items()}


def _distinct(plan: Mapping[Any, NodeSet | Collection[str]]) -> tuple[dict[Any, int], list[NodeSet]]:
    """Each circuit once: the plan's keys -> row, and the rows."""
    rows: dict[NodeSet, int] = {}
    places = {}
    for key, circuit in plan.items():
        wanted = circuit if isinstance(circuit, NodeSet) else NodeSet(frozenset(circuit))
        places[key] = rows.setdefault(wanted, len(rows))
    return places, list(rows)
