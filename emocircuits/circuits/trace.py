"""From a direction to a token: the effect of a push on a metric, split exactly in two ways, and what real
interventions say.

*By what reads the push.* The push lies in the residual stream; from there it reaches the logits directly
(what the unembedding makes of it: a push on output tokens) or enters a head's queries, keys or values or an
MLP behind the site (deeper computation). Each of these edges is integrated over the strength; together they
are the whole effect.

*By what it becomes at a later site.* There the push has changed features and the error, and < change, mean
gradient over the strength > of each is its share: of the features that match the emotion, of all other
features, and of the error.

The first split leaves the remainder of the numerical integration; the second also what the change of the
gradient along the way does not let it account for. Both are reported. Two real interventions stand beside
them: only the logits see the push, and everything but the logits sees it; where the two do not add up to the
whole, the paths interact.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from emocircuits.attribution.methods.steering_attribution import (
    STEPS,
    Push,
    steered_graph,
    steered_pair,
    steering_path,
)
from emocircuits.graphs.components import Graph
from emocircuits.graphs.linearise import SiteRun
from emocircuits.names import TARGET, NodeId, format_node, parse_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.anatomy import Anatomy, open_anatomy
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks
from emocircuits.passes.record import Change, forward
from emocircuits.sae.dictionary import Dictionary

DIRECT, REMAINDER = "direct", "remainder"
COLUMNS = ("split", "part", "amount", "ci_low", "ci_high", "share")


@dataclass(frozen=True, eq=False)
class Trace:
    """Where the effect of one push runs.

    Attributes:
        table: `split, part, amount, ci_low, ci_high, share`: `split` is `routes` (readers by kind), `readers`
            (block by block), a site, or `real` (interventions); amounts are in units of the metric and, but
            for `real`, add up to the whole within a split; shares are of the mean whole.
        total: M(steered) - M(unsteered) per prompt.
        steps: midpoints of the strength.
    """

    table: pd.DataFrame
    total: Float[np.ndarray, "prompt"]
    steps: int

    def share(self, split: str, part: str) -> float:
        """The share of one part of one split."""
        rows = self.table[(self.table["split"] == split) & (self.table["part"] == part)]
        return float(rows["share"].iloc[0])


def trace_push(
    model: Any,
    batches: Sequence[PairBatch],
    metric: Metric,
    push: Push,
    *,
    dictionaries: Mapping[str, Dictionary] | None = None,
    matched: Mapping[str, Collection[int]] | None = None,
    real: bool = True,
    steps: int = STEPS,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Trace:
    """Splits the effect of a push.

    Args:
        model: any TransformerLens object.
        batches: prompts; their corrupt side is pushed.
        metric: logits -> one value per prompt.
        push: the direction.
        dictionaries: later sites at which the effect is split by features.
        matched: site -> features that match the emotion.
        real: whether the two real interventions are run.
        steps: midpoints of the strength.
        seed: seed of the bootstrap.
        max_tokens: tokens per pass.
    """
    anatomy = open_anatomy(model, batches[0].corrupt)
    whole = steered_graph(anatomy, push)
    # only the push writes: nothing else is asked for
    graph = Graph(anatomy, whole.writers[:1], whole.readers)
    order = np.argsort(all_indices(batches), kind="stable")
    found, totals, patched = [], [], []
    sites = dict(dictionaries or {})
    parts: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
    for chunk in chunks(batches, max_tokens):
        pair = steered_pair(graph, chunk, metric, push, sites)
        seeds = None
        grads = dict.fromkeys(sites, 0.0)
        for weight, point in steering_path(graph, chunk, metric, push, steps, sites):
            seeds = graph.seeds(point, weight, seeds)
            grads = {site: total + weight * point.grads[site] for site, total in grads.items()}
        found.append(graph.edge_effects(pair, seeds))
        totals.append(pair.clean.metric - pair.corrupt.metric)
        for site, dictionary in sites.items():
            run = SiteRun(dictionary, pair.clean.values[site], pair.corrupt.values[site], grads[site])
            error = (run.delta_error * run.grad).sum((1, 2))[:, None]
            parts[site].append(torch.cat([(run.delta_features * run.feature_grad).sum(1), error], dim=1))
        if real:
            patched.append(_interventions(anatomy, chunk, metric, push) - pair.corrupt.metric[:, None])
    edges, total = (torch.cat(one).double().numpy(force=True)[order] for one in (found, totals))
    slots = [graph.slots[target] for target in graph.pairs[1]]
    columns: list[tuple[str, str, np.ndarray]] = []
    for split, name in (("routes", _route), ("readers", _part)):
        for part in sorted(set(map(name, slots)), key=lambda part: (part != DIRECT, part)):
            columns.append((split, part, edges[:, [name(slot) == part for slot in slots]].sum(1)))
        columns.append((split, REMAINDER, total - edges.sum(1)))
    if real:
        alone, others = torch.cat(patched).double().numpy(force=True)[order].T
        columns += [
            ("real", "only the logits see the push", alone),
            ("real", "all but the logits see the push", others),
        ]
    for site in sites:
        shares = torch.cat(parts[site]).double().numpy(force=True)[order]
        columns += _by_feature(site, shares, total - shares.sum(1), sorted((matched or {}).get(site, ())))
    return Trace(_table(columns, total, seed), total, steps)


@torch.no_grad()
def _interventions(
    anatomy: Anatomy, chunk: PairBatch, metric: Metric, push: Push
) -> Float[torch.Tensor, "prompt two"]:
    """The metric where only the logits read the push, and where all but the logits do."""

    def run(changes: Mapping[str, Change]) -> torch.Tensor:
        return forward(anatomy, chunk.corrupt, metric, chunk.index, changes=changes).metric

    alone = run({anatomy.last: lambda value: value + push.vector.to(value)})
    if push.site == anatomy.last:
        return torch.stack([alone, run({})], dim=1)
    others = run(
        {
            push.site: lambda value: value + push.vector.to(value),
            anatomy.last: lambda value: value - push.vector.to(value),
        }
    )
    return torch.stack([alone, others], dim=1)


def _route(slot: str) -> str:
    """The kind of a reader, all blocks together."""
    if slot == TARGET:
        return DIRECT
    kind = slot.partition("<")[2]
    return "MLPs" if not kind else "attention values" if kind == "v>" else "attention queries and keys"


def _part(slot: str) -> str:
    """What a slot belongs to in the table: the logits, one kind of input of a block's attention, or
    an MLP.
    """
    if slot == TARGET:
        return DIRECT
    head, _, kind = slot.partition("<")
    layer = parse_node(slot).layer
    if not kind:
        return f"MLP {layer}"
    return f"attention {layer}, {'values' if kind == 'v>' else 'queries and keys'}"


def _by_feature(
    site: str,
    shares: Float[np.ndarray, "prompt part"],
    missing: Float[np.ndarray, "prompt"],
    matched: list[int],
) -> list[tuple[str, str, np.ndarray]]:
    rest = np.setdiff1d(np.arange(shares.shape[1] - 1), matched)
    parts = [
        (site, format_node(NodeId("feature", site=site, feature=feature)), shares[:, feature])
        for feature in matched
    ]
    return [
        *parts,
        (site, "matched features", shares[:, matched].sum(1)),
        (site, "other features", shares[:, rest].sum(1)),
        (site, "error", shares[:, -1]),
        (site, REMAINDER, missing),
    ]


def _table(columns: list[tuple[str, str, np.ndarray]], total: np.ndarray, seed: int) -> pd.DataFrame:
    values = np.stack([column for *_, column in columns] + [total], axis=1)
    low, high = bootstrap_interval(values, seed=seed)
    mean = values.mean(0)
    whole = mean[-1] if mean[-1] else np.nan
    rows = [
        (split, part, mean[i], low[i], high[i], mean[i] / whole) for i, (split, part, _) in enumerate(columns)
    ]
    return pd.DataFrame([*rows, ("whole", "whole", mean[-1], low[-1], high[-1], 1.0)], columns=list(COLUMNS))
