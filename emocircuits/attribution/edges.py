"""Edges between nodes of adjacent sites: the part of a node's effect that runs through each node of the next
site.

For a downstream feature d with encoder row enc_d, activation slope s_d and gradient dM/df_d (both at the
corrupt run), and an upstream node that writes delta into the stream, with J = d x_down / d x_up at the
corrupt run,

    edge(node -> d)     = sum over positions of dM/df_d * s_d * <enc_d, J delta>
    edge(node -> error) = sum over positions of <dM/dx - sum_d dM/df_d s_d enc_d, J delta>

The seed dM/df_d * s_d * enc_d is pulled back once per downstream node (a vector-Jacobian product, many seeds
in one batched backward pass) and contracted with all upstream nodes of all prompts by one matrix product.
Summed over *all* downstream nodes the seeds give dM/dx, so a node's outgoing edges add up to its effect
exactly, whatever the slopes. All computation between the two sites (attention, MLPs) is part of the edge.
With `steps` dM/dx is the averaged gradient of `integrated_gradients`, as in Marks et al. 2024, while J stays
that of the corrupt run: edges then go with those effects, and no longer add up to them exactly.

The slope is 1 where d is active on both runs, the secant (clean - corrupt activation over clean - corrupt
preactivation) where it is active on one, 0 elsewhere, so features that switch on are credited. A secant is
clipped to [0, `slope_limit`]: near a jump (TopK, JumpReLU) it has no bound, and what is clipped goes to the
error node. Last-site nodes link to the metric with their effect.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.artifacts.attribution import EdgeEffects
from emocircuits.attribution.methods.integrated_gradients import with_path_gradients
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.nodes import SiteNodes, contributions, nodes_by_site, position_mask
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.slopes import SLOPE_LIMIT, slopes
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.passes.shared import Shared
from emocircuits.sae.dictionary import Dictionary, open_dictionaries


def edge_effects(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    nodes: Sequence[str],
    *,
    slope_limit: float = SLOPE_LIMIT,
    steps: int = 0,
    max_tokens: int = 2048,
) -> EdgeEffects:
    """Edges among chosen nodes, per prompt.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE; "adjacent" means adjacent among these sites.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        nodes: node ids (with or without positions).
        slope_limit: bound of the secant slope.
        steps: midpoints of integrated gradients for dM/dx; 0 takes the gradient of the corrupt run.
        max_tokens: tokens per pass, counting the seeds of one batched backward pass.

    Returns:
        Edges whose effect is nonzero on some prompt, in compressed rows over `nodes`; target `len(nodes)` is
        the metric.

    Raises:
        UserError: no node, or a node that the SAEs do not have.
    """
    return counted_edge_effects(
        model, saes, batches, metric, nodes, slope_limit=slope_limit, steps=steps, max_tokens=max_tokens
    )[0]


def counted_edge_effects(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    nodes: Sequence[str],
    *,
    slope_limit: float = SLOPE_LIMIT,
    steps: int = 0,
    max_tokens: int = 2048,
    run_batch: Callable[[Mapping[str, Dictionary], PairBatch], PairRun] | None = None,
) -> tuple[EdgeEffects, int]:
    """`edge_effects`, and the passes spent (a batched backward pass between two sites counts one).

    `run_batch` makes both runs of a batch another way, with gradients and the graph of the corrupt run.
    """
    if not nodes:
        raise UserError("no node to draw edges between")
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    beside = [site for site in dictionaries if "hook_resid" not in site]
    if beside:
        raise UserError(
            f"edges at {', '.join(beside)}",
            expected="sites of the residual stream, through which all paths run",
        )
    groups = nodes_by_site(nodes, dictionaries)
    number = {node: position for position, node in enumerate(nodes)}
    sites = list(dictionaries)
    source, target = _pairs(sites, groups, number)
    shared = Shared(batches, max_tokens, "edges")
    for chunk in shared.mine():
        run = (
            run_batch(dictionaries, chunk)
            if run_batch
            else run_pair(model, dictionaries, chunk, metric, keep_graph=True)
        )
        if steps:
            run = with_path_gradients(model, run, metric, steps)
        seeds_at_once = max(1, max_tokens // chunk.clean.numel())
        parts = [
            _between(run.sites[up], groups[up], run.sites[down], groups[down], seeds_at_once, slope_limit)
            for up, down in zip(sites, sites[1:], strict=False)
        ]
        last = run.sites[sites[-1]]
        parts.append(contributions(last, groups[sites[-1]], last.grad[None])[0])
        pulls = sum(
            -(-len(groups[down]) // seeds_at_once)
            for up, down in zip(sites, sites[1:], strict=False)
            if len(groups[up])
        )
        shared.keep(chunk, torch.cat(parts, dim=1), passes=run.passes + pulls)
    (effects,), passes = shared.collect()
    kept = (effects != 0).any(0)
    return EdgeEffects.of(source[kept], target[kept], effects[:, kept], len(nodes)), int(
        np.ceil(passes - 1e-9)
    )


def _between(
    up: SiteRun, upstream: SiteNodes, down: SiteRun, downstream: SiteNodes, seeds_at_once: int, limit: float
) -> Float[torch.Tensor, "prompt edge"]:
    """Edges from every upstream to every downstream node, the downstream node varying slowest."""
    n_prompts, length = up.clean.shape[:2]
    if not len(upstream) or not len(downstream):
        return up.clean.new_zeros(n_prompts, 0)
    seeds_of = Seeds(down, limit)
    found = []
    for start in range(0, len(downstream), seeds_at_once):
        seeds = seeds_of(downstream.part(slice(start, start + seeds_at_once)))
        (pulled,) = torch.autograd.grad(
            down.stream, up.stream, seeds.to(down.stream.dtype), is_grads_batched=True, retain_graph=True
        )
        found.append(contributions(up, upstream, pulled).transpose(0, 1).flatten(1))
    return torch.cat(found, dim=1)


class Seeds:
    """Gradients of the metric through single nodes of a site, taken back to the site's stream.

    Args:
        run: the site, with the gradient of the metric.
        limit: bound of the secant slope.

    Raises:
        UserError: a site without features.
    """

    def __init__(self, run: SiteRun, limit: float = SLOPE_LIMIT):
        if not run.dictionary.d_sae:
            raise UserError(f"the site {run.dictionary.site} has no features", expected="such a site first")
        self._run = run
        self._weight = slopes(run, limit) * run.feature_grad
        self._rest = run.grad - self._weight @ run.dictionary.encoder.T

    def __call__(self, nodes: SiteNodes) -> Float[torch.Tensor, "node prompt pos d_model"]:
        """One seed per node, at the node's positions."""
        feature, encoder = nodes.feature.clamp(min=0), self._run.dictionary.encoder
        seeds = self._weight[..., feature].permute(2, 0, 1)[..., None] * encoder.T[feature][:, None, None]
        seeds = torch.where((nodes.feature < 0)[:, None, None, None], self._rest[None], seeds)
        return seeds * position_mask(nodes, seeds.shape[2]).to(seeds.dtype)[:, None, :, None]


def _pairs(
    sites: list[str], groups: Mapping[str, SiteNodes], number: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    source, target = [], []
    for up, down in zip(sites, sites[1:], strict=False):
        for node in groups[down].ids:
            source += [number[other] for other in groups[up].ids]
            target += [number[node]] * len(groups[up])
    source += [number[node] for node in groups[sites[-1]].ids]
    target += [len(number)] * len(groups[sites[-1]])
    return np.array(source, dtype=np.int64), np.array(target, dtype=np.int64)
