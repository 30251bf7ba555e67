"""A circuit's own nodes under a push: what each of them makes of a direction that is added to the corrupt
prompts.

At every site after the push, with the change from the unsteered to the steered run and the gradient averaged
over the strength (`graphs.steered`),

    effect of a feature     = < change of its activation, dM/df >
    effect of an error node = < change of the error, dM/dx >

and the effects of all features and the error of a site add up to M(steered) - M(unsteered), up to the
midpoint rule. This puts an emotion, its opposite and control directions on the same nodes that a prompt pair
gave.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.push import Push
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.steered import STEPS, PushedBatch
from emocircuits.names import parse_node
from emocircuits.passes.record import CleanCorrupt
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import Dictionary


def push_effects(task: Task, push: Push, nodes: Sequence[str], *, steps: int = STEPS) -> dict[str, float]:
    """Mean effect of each node over the prompts; positive: what the push makes of it raises the metric.

    Args:
        task: the metric, the prompts, whose corrupt side is pushed, and SAEs at sites after the push.
        push: the direction.
        nodes: node ids; without a position, effects are summed over positions. Nodes of other sites and kinds
            are left out.
        steps: midpoints of the strength.
    """
    parsed = {node: parse_node(node) for node in nodes}
    wanted = {
        node: parts
        for node, parts in parsed.items()
        if parts.site in task.saes and parts.kind in ("feature", "error")
    }
    sums = dict.fromkeys(wanted, 0.0)
    for batch in task.batches():
        pushed = PushedBatch.of(task, batch, push)
        sides, grads = pushed.sides(task.saes), dict.fromkeys(task.saes, 0.0)
        for weight, point in pushed.points(task.saes, steps, skip_unread=True):
            grads = {site: grad + weight * point.grads[site] for site, grad in grads.items()}
        shares = {site: _shares(dictionary, sides, grads[site]) for site, dictionary in task.saes.items()}
        for node, parts in wanted.items():
            column = shares[parts.site][..., -1 if parts.kind == "error" else parts.feature]
            sums[node] += float((column if parts.position is None else column[:, parts.position]).sum())
    return {node: total / len(task.prompts) for node, total in sums.items()}


def _shares(
    dictionary: Dictionary, sides: CleanCorrupt, grad: Float[Tensor, "prompt pos d_model"]
) -> Float[Tensor, "prompt pos part"]:
    """Every feature's share, and the error's in the last column."""
    clean, corrupt = (side.values[dictionary.site] for side in (sides.clean, sides.corrupt))
    run = SiteRun(dictionary, clean, corrupt, grad)
    error = (run.delta_error * run.grad).sum(-1, keepdim=True)
    return torch.cat([run.delta_features * run.feature_grad, error], dim=-1)
