"""Integrated gradients over the activations of each site: attribution patching where one gradient is not
enough.

    effect of feature i = sum over positions of (f_clean - f_corrupt)_i * mean over alpha of dM/df_i
    x(alpha) = x_corrupt + alpha (x_clean - x_corrupt)         alpha = (k + 1/2) / steps, k = 0 … steps - 1

One site at a time is moved along the straight line from its corrupt to its clean stream, all positions
together, while everything below it stays corrupt; the gradient is taken there. Moving the stream moves
features and errors together, so at every site the effects of all features and the error add up to M(corrupt
run with the site's clean stream) - M(corrupt), which is metric(clean) - metric(corrupt), up to the midpoint
rule (Sundararajan et al. 2017; over SAE features Marks et al. 2024, 2403.19647, section 2, who start from the
clean run and so have the opposite sign).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.attribution_patching import effects_of
from emocircuits.attribution.methods.card import METHODS, MethodCard
from emocircuits.errors import Failure, UserError
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.parts import Pair
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.attention import fused_attention
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.recompute import recomputed_blocks
from emocircuits.passes.record import Pass, differentiate, finite
from emocircuits.sae.dictionary import Dictionary

STEPS = 8


def input_path(
    anatomy: Anatomy, chunk: PairBatch, pair: Pair, metric: Metric, taps: Sequence[str], *, steps: int = 5
) -> Iterator[tuple[float, Pass]]:
    """Differentiated passes on the straight line between corrupt and clean embeddings, at its midpoints.

        e(alpha) = e_corrupt + alpha (e_clean - e_corrupt)      alpha = (k + 1/2) / steps

    Everything behind the embeddings runs freely (integrated gradients over inputs; EAP-IG of Hanna et al.
    2024, 2403.17806, who take end points k / steps instead of midpoints). Each point has the weight 1 / steps
    and costs two passes.
    """
    if steps < 1:
        raise UserError(f"integrated gradients over {steps} steps", expected="at least 1")
    start, change = pair.corrupt.values[anatomy.embedding], pair.change(anatomy.embedding)
    for step in range(steps):
        stream = start + (step + 0.5) / steps * change
        changes = {anatomy.embedding: lambda value, stream=stream: stream}
        yield 1 / steps, differentiate(anatomy, chunk.corrupt, metric, chunk.index, taps, changes=changes)


def integrated_gradients(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    behaviour: str = "",
    positions: bool = False,
    steps: int = STEPS,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of all nodes that differ between the runs, per prompt.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        behaviour: name stored in the result.
        positions: one node per token position instead of the sum over positions.
        steps: midpoints between corrupt and clean; the cost is 2 + 2 · sites · steps passes per batch.
        max_tokens: tokens per pass.

    Returns:
        As `attribution_patching`.

    Raises:
        UserError: `steps` below 1, wrong shapes, a metric that is not differentiable, prompts without any
            difference.
        Failure: a gradient that is missing, NaN or infinite.
    """
    if steps < 1:
        raise UserError(f"{steps} steps of integrated gradients", expected="at least 1")

    def run(dictionaries: Mapping[str, Dictionary], chunk: PairBatch) -> PairRun:
        with fused_attention(model, chunk.clean):
            return with_path_gradients(
                model, run_pair(model, dictionaries, chunk, metric, gradient=False), metric, steps
            )

    conventions = {
        "method": "integrated_gradients",
        "gradient": f"mean over {steps} midpoints from corrupt to clean",
    }
    return effects_of(
        model,
        saes,
        batches,
        run,
        behaviour=behaviour,
        positions=positions,
        max_tokens=max_tokens,
        conventions=conventions,
    )


def with_path_gradients(model: Any, run: PairRun, metric: Metric, steps: int) -> PairRun:
    """The run with the gradient of every site averaged along its path from corrupt to clean."""
    sites, corrupt, metric_from = {}, run.batch.corrupt, FromSite.of(model, metric, run.batch)
    with fused_attention(model, corrupt) as fused, recomputed_blocks(model, corrupt, fused=fused) as again:
        for site, at in run.sites.items():
            total = torch.zeros_like(at.corrupt)
            for step in range(steps):
                middle = at.corrupt + (step + 0.5) / steps * (at.clean - at.corrupt)
                total += _gradient_at(metric_from, run.batch, site, middle)
            sites[site] = replace(at, grad=total / steps)
    return replace(run, sites=sites, passes=run.passes + (3 if again else 2) * steps * len(sites))


def _gradient_at(
    metric_from: FromSite, batch: PairBatch, site: str, value: Float[torch.Tensor, "prompt pos d_model"]
) -> Float[torch.Tensor, "prompt pos d_model"]:
    """dM/dx where the stream at the site is `value`."""
    leaf = value.detach().requires_grad_()
    with torch.enable_grad():
        metric_here = metric_from(batch.corrupt, batch.index, site, leaf)
        if not metric_here.requires_grad:
            raise UserError(
                "the metric has no gradient with respect to the logits",
                expected="a differentiable function of the logits such as a logit difference",
                cure="do not use argmax, detach or a threshold in it",
            )
        (grad,) = torch.autograd.grad(metric_here.sum(), [leaf], allow_unused=True)
    if grad is None:
        raise Failure(
            f"no gradient of the metric reaches {site}", cure="check the site's hook and the metric"
        )
    if not finite(grad):
        raise Failure(
            f"the gradient of the metric at {site} is NaN or infinite",
            cure="check the metric and the model's precision",
        )
    return grad


METHODS.add(
    MethodCard(
        "integrated_gradients",
        f"the gradient averaged over {STEPS} midpoints between corrupt and clean, site by site; "
        "2 + 2 · sites · steps passes",
        integrated_gradients,
        exact=False,
    )
)
