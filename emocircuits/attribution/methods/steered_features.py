"""Steering attribution over SAE features behind a push: the shares of its effect, and the runs that edges are
drawn from.

At a site behind the push features and error are all there is, so their shares add up to M(steered) -
M(unsteered), and the change of each is its own path-integrated derivative: df/dalpha by forward-mode
differentiation times dM/df by reverse mode, at midpoints of the strength (Macar et al. 2026, arXiv
2603.21396).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from jaxtyping import Float
from torch import Tensor

from emocircuits.attribution.methods.steering_attribution import STEPS, Push
from emocircuits.errors import Failure
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.passes.anatomy import Anatomy, open_anatomy
from emocircuits.passes.hooks import hooked
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.record import differentiate, forward
from emocircuits.passes.shared import Shared
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


def feature_shares(
    model: Any,
    dictionaries: Mapping[str, Dictionary],
    batches: Sequence[PairBatch],
    metric: Metric,
    push: Push,
    *,
    steps: int = STEPS,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Shares:
    """What runs through each feature of later sites, and through their errors, by forward- and reverse-mode
    differentiation.

        share of f     = sum over positions of the integral over alpha of  dM/df(alpha) * df/dalpha
        share of error = the same with what the active features leave of dM/dx * dx/dalpha

    A site's shares add up to the whole effect of the push as the steps grow, whatever the SAE.

    Args:
        model: any TransformerLens object.
        dictionaries: site -> SAE, sites behind the push.
        batches: prompts, as for `steering_attribution`.
        metric: logits -> one value per prompt.
        push: the direction.
        steps: midpoints of the strength; each costs a forward-mode pass (twice a forward pass) and a forward
            and backward pass.
        max_tokens: tokens per pass.

    Raises:
        Failure: a site that the push does not reach, or a model that cannot be differentiated in forward
            mode.
    """
    anatomy, shared = (
        open_anatomy(model, batches[0].corrupt),
        Shared(batches, max_tokens, "steering attribution"),
    )
    for chunk in shared.mine():
        total = dict.fromkeys(dictionaries, 0.0)
        for step in range(steps):
            amount = (step + 0.5) / steps
            tangents = _tangents(anatomy, chunk, push, list(dictionaries), amount)
            point = differentiate(
                anatomy, chunk.corrupt, metric, chunk.index, dictionaries, changes=push.change(amount)
            )
            for site, dictionary in dictionaries.items():
                total[site] = total[site] + _shares_at(dictionary, *tangents[site], point.grads[site]) / steps
        ends = [
            forward(anatomy, chunk.corrupt, metric, chunk.index, changes=push.change(amount)).metric
            for amount in (1.0, 0.0)
        ]
        shared.keep(chunk, *ends, *total.values(), passes=2 + 4 * steps)
    (steered, plain, *shares), passes = shared.collect()
    return Shares(dict(zip(dictionaries, shares, strict=True)), steered, plain, int(np.ceil(passes - 1e-9)))


def _shares_at(
    dictionary: Dictionary,
    stream: Float[Tensor, "prompt pos d_model"],
    rate: Float[Tensor, "prompt pos d_model"],
    grad: Float[Tensor, "prompt pos d_model"],
) -> Float[Tensor, "prompt part"]:
    moves = (rate @ dictionary.encoder) * (dictionary.encode(stream) != 0)
    error = rate - moves @ dictionary.decoder
    return torch.cat(
        [moves * (grad @ dictionary.decoder.T), (error * grad).sum(-1, keepdim=True)], dim=-1
    ).sum(1)


def steered_run(
    model: Any,
    dictionaries: Mapping[str, Dictionary],
    chunk: PairBatch,
    metric: Metric,
    push: Push,
    steps: int,
) -> PairRun:
    """Steered streams as the clean side, unsteered ones as the corrupt side inside the graph, and the
    gradient averaged over the strength: what edges between features are drawn from.
    """
    run = run_pair(
        model, dictionaries, PairBatch(chunk.corrupt, chunk.corrupt, chunk.index), metric, keep_graph=True
    )
    anatomy = open_anatomy(model, chunk.corrupt)
    steered = forward(anatomy, chunk.corrupt, metric, chunk.index, dictionaries, changes=push.change(1.0))
    grads = dict.fromkeys(dictionaries, 0.0)
    for step in range(steps):
        point = differentiate(
            anatomy,
            chunk.corrupt,
            metric,
            chunk.index,
            dictionaries,
            changes=push.change((step + 0.5) / steps),
        )
        grads = {site: grads[site] + point.grads[site] / steps for site in dictionaries}
    sites = {
        site: replace(at, clean=steered.values[site], grad=grads[site]) for site, at in run.sites.items()
    }
    return replace(run, sites=sites, metric_clean=steered.metric, passes=run.passes + 1 + 2 * steps)


@torch.no_grad()
def _tangents(
    anatomy: Anatomy, chunk: PairBatch, push: Push, sites: Sequence[str], amount: float
) -> dict[str, tuple[Tensor, Tensor]]:
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
                cure="choose a site behind the push",
            )
        seen[site] = primal.detach(), tangent.detach()

    hooks = [
        (push.site, enter),
        *((site, lambda value, hook, site=site: leave(site, value)) for site in sites),
    ]
    with forward_ad.dual_level(), hooked(anatomy.model, anatomy.points, hooks):
        try:
            anatomy.model(chunk.corrupt)
        except NotImplementedError as error:
            raise Failure(
                f"the model cannot be differentiated in forward mode ({str(error).splitlines()[0]})",
                cure="use nodes='components', which needs gradients only",
            ) from error
    return seen
