"""Steering attribution over SAE features after a push: the shares of its effect, and the runs that edges are
drawn from.

At a site after the push features and error are all there is, so their shares add up to M(steered) -
M(unsteered), and the change of each is its own path-integrated derivative: df/dalpha by forward-mode
differentiation times dM/df by reverse mode, at midpoints of the strength (Macar et al. 2026, arXiv
2603.21396).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.push import Push
from emocircuits.errors import Failure
from emocircuits.graphs.feature_sides import FeatureSides
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.steered import STEPS, PushedBatch
from emocircuits.passes.gathered import Gathered, whole_passes
from emocircuits.passes.hooks import hooked
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.record import differentiate, forward
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import Dictionary


@dataclass(frozen=True, eq=False)
class Shares:
    """How a push runs through the features of later sites.

    Attributes:
        sites: site -> share of every feature, and of the error last, per prompt.
        steered, plain: the metric with and without the push.
        passes: passes spent.
    """

    sites: Mapping[str, Float[np.ndarray, "prompt part"]]
    steered: Float[np.ndarray, "prompt"]
    plain: Float[np.ndarray, "prompt"]
    passes: int

    def remainder(self, site: str) -> Float[np.ndarray, "prompt"]:
        """What the shares of a site miss of M(steered) - M(unsteered): the error of the midpoint rule."""
        return self.steered - self.plain - self.sites[site].sum(1)


def feature_shares(task: Task, push: Push, *, steps: int = STEPS) -> Shares:
    """What runs through each feature of later sites, and through their errors, by forward- and reverse-mode
    differentiation.

        share of f     = sum over positions of the integral over alpha of  dM/df(alpha) * df/dalpha
        share of error = the same with what the active features leave of dM/dx * dx/dalpha

    A site's shares add up to the whole effect of the push as the steps grow, whatever the SAE.

    Args:
        task: the question; its corrupt prompts are pushed, its SAEs lie at sites after the push.
        push: the direction.
        steps: midpoints of the strength; each costs a forward-mode pass (twice a forward pass) and a forward
            and backward pass.

    Raises:
        Failure: a site that the push does not reach, or a model that cannot be differentiated in forward
            mode.
    """
    gathered, dictionaries = Gathered(task, "steering attribution"), task.dictionaries
    for batch in gathered.shard():
        total = dict.fromkeys(dictionaries, 0.0)
        for step in range(steps):
            amount = (step + 0.5) / steps
            tangents = _tangents(task, batch, push, amount)
            point = differentiate(
                task,
                batch.corrupt,
                batch.index,
                dictionaries,
                changes=push.change(amount),
                start=push.site,
            )
            for site, dictionary in dictionaries.items():
                total[site] = total[site] + _shares_at(dictionary, *tangents[site], point.grads[site]) / steps
        ends = [
            forward(task, batch.corrupt, batch.index, changes=push.change(amount)).metric
            for amount in (1.0, 0.0)
        ]
        gathered.keep(batch, *ends, *total.values(), passes=2 + 4 * steps)
    (steered, plain, *shares), passes = gathered.collect()
    return Shares(dict(zip(dictionaries, shares, strict=True)), steered, plain, whole_passes(passes))


def _shares_at(
    dictionary: Dictionary,
    stream: Float[Tensor, "prompt pos d_model"],
    rate: Float[Tensor, "prompt pos d_model"],
    grad: Float[Tensor, "prompt pos d_model"],
) -> Float[Tensor, "prompt part"]:
    rate, grad = (value.to(dictionary.decoder.dtype) for value in (rate, grad))
    moves = (rate @ dictionary.encoder) * (dictionary.encode(stream) != 0)
    error = rate - moves @ dictionary.decoder
    return torch.cat(
        [moves * (grad @ dictionary.decoder.T), (error * grad).sum(-1, keepdim=True)], dim=-1
    ).sum(1)


def steered_feature_sides(task: Task, batch: PairBatch, push: Push, steps: int) -> FeatureSides:
    """Steered streams as the clean side, unsteered ones as the corrupt side, and the gradient averaged over
    the strength: what edges between features are drawn from.
    """
    sites = tuple(task.dictionaries)
    plain, steered = (
        forward(task, batch.corrupt, batch.index, sites, changes=changes) for changes in ({}, push.change())
    )
    grads = dict.fromkeys(sites, 0.0)
    for weight, point in PushedBatch.of(task, batch, push).points(sites, steps):
        grads = {site: grads[site] + weight * point.grads[site] for site in sites}
    runs = {
        site: SiteRun(dictionary, steered.values[site], plain.values[site], grads[site])
        for site, dictionary in task.dictionaries.items()
    }
    return FeatureSides(batch, steered, plain, 2 + 2 * steps, sites=runs, alike=False)


@torch.no_grad()
def _tangents(task: Task, batch: PairBatch, push: Push, amount: float) -> dict[str, tuple[Tensor, Tensor]]:
    """The streams at some sites with so much of the push, and their derivatives with respect to the
    amount.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def enter(value: Tensor, hook: object) -> Tensor:
        vector = push.vector.to(value).expand_as(value).contiguous()
        return forward_ad.make_dual((value + amount * vector).contiguous(), vector)

    def leave(site: str, value: Tensor) -> None:
        primal, tangent = forward_ad.unpack_dual(value)
        if tangent is None:
            raise Failure(
                f"no derivative with respect to the push at {push.site} reaches {site}",
                cure="choose a site after the push",
            )
        seen[site] = primal.detach(), tangent.detach()

    hooks = [
        (push.site, enter),
        *((site, lambda value, hook, site=site: leave(site, value)) for site in task.saes),
    ]
    with forward_ad.dual_level(), hooked(task.model, task.anatomy.points, hooks):
        try:
            task.model(batch.corrupt)
        except NotImplementedError as error:
            raise Failure(
                f"the model cannot be differentiated in forward mode ({str(error).splitlines()[0]})",
                cure="use nodes='components', which needs gradients only",
            ) from error
    return seen
