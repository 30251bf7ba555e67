"""A circuit's own nodes under a push: what each of them makes of a direction that is added to the corrupt
prompts.

At every site behind the push, with the change from the unsteered to the steered run and the gradient averaged
over the strength (`emocircuits.attribution.methods.steering_attribution`),

    effect of a feature     = < change of its activation, dM/df >
    effect of an error node = < change of the error, dM/dx >

and the effects of all features and the error of a site add up to M(steered) - M(unsteered), up to the
midpoint rule. This puts an emotion, its opposite and control directions on the same nodes that a prompt pair
gave.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emocircuits.attribution.methods.steering_attribution import STEPS, Push, steered_pair, steering_path
from emocircuits.graphs.components import Graph
from emocircuits.graphs.linearise import SiteRun
from emocircuits.graphs.parts import Injection
from emocircuits.names import parse_node
from emocircuits.passes.anatomy import open_anatomy
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, chunks
from emocircuits.sae.dictionary import Dictionary


def push_effects(
    model: Any,
    batches: Sequence[PairBatch],
    metric: Metric,
    push: Push,
    dictionaries: Mapping[str, Dictionary],
    nodes: Sequence[str],
    *,
    steps: int = STEPS,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> dict[str, float]:
    """Mean effect of each node over the prompts; positive: what the push makes of it raises the metric.

    Args:
        model: any TransformerLens object.
        batches: prompts; their corrupt side is pushed.
        metric: logits -> one value per prompt.
        push: the direction.
        dictionaries: site -> SAE, all behind the push.
        nodes: node ids; without a position, effects are summed over positions. Nodes of other sites and kinds
            are left out.
        steps: midpoints of the strength.
        max_tokens: tokens per pass.
    """
    anatomy = open_anatomy(model, batches[0].corrupt)
    # nothing but the push and the sites is kept
    graph = Graph(anatomy, (Injection(push.name, push.site, push.vector),), ())
    parsed = {node: parse_node(node) for node in nodes}
    wanted = {
        node: parts
        for node, parts in parsed.items()
        if parts.site in dictionaries and parts.kind in ("feature", "error")
    }
    sums, count = dict.fromkeys(wanted, 0.0), 0
    for chunk in chunks(batches, max_tokens):
        pair = steered_pair(graph, chunk, metric, push, dictionaries)
        grads = dict.fromkeys(dictionaries, 0.0)
        for weight, point in steering_path(graph, chunk, metric, push, steps, dictionaries):
            grads = {site: grad + weight * point.grads[site] for site, grad in grads.items()}
        shares = {
            site: _shares(dictionary, pair, grads[site], site) for site, dictionary in dictionaries.items()
        }
        for node, parts in wanted.items():
            column = shares[parts.site][..., -1 if parts.kind == "error" else parts.feature]
            sums[node] += float((column if parts.position is None else column[:, parts.position]).sum())
        count += len(chunk)
    return {node: value / count for node, value in sums.items()}


def _shares(dictionary: Dictionary, pair: Any, grad: torch.Tensor, site: str) -> torch.Tensor:
    """(prompt, pos, d_sae + 1): every feature's share, and the error's in the last column."""
    run = SiteRun(dictionary, pair.clean.values[site], pair.corrupt.values[site], grad)
    error = (run.delta_error * run.grad).sum(-1, keepdim=True)
    return torch.cat([run.delta_features * run.feature_grad, error], dim=-1)
