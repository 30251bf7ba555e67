"""Both runs of a batch at the sites of the SAEs, and the gradient of the metric there.

The gradient is taken on the corrupt run, as TransformerLens' `attribution_patch` does, so an effect estimates
what patching the clean value into the corrupt run adds to the metric. Where prompts have a reference instead
of a partner (`graphs.reference_values`) the clean run is the live one: the gradient is taken there, patches
go there. Since a spliced site has d out/dx = I (`interventions.splice`), the gradient at the plain stream x
is also that of the splice: dM/df = decoder @ dM/dx and dM/de = dM/dx, with any number of SAEs.

Integrated gradients move one site at a time along the straight line from its corrupt to its clean stream, all
positions together, while everything before it stays corrupt; the gradient is averaged over the midpoints

    x(alpha) = x_corrupt + alpha (x_clean - x_corrupt)         alpha = (k + 1/2) / steps, k = 0 … steps - 1

Moving the stream moves features and errors together, so at every site the effects of all features and the
error add up to M(corrupt run with the site's clean stream) - M(corrupt), which is metric(clean) -
metric(corrupt), up to the midpoint rule (Sundararajan et al. 2017; over SAE features Marks et al. 2024,
2403.19647, section 2, who start from the clean run and so have the opposite sign).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.parts.features import ERROR, FEATURES
from emocircuits.graphs.reference_values import ReferenceValues
from emocircuits.graphs.site_run import SiteRun
from emocircuits.interventions.ablate import NodeValues
from emocircuits.passes.attention import fused_attention
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.prompt_pairs import PairBatch, Reference
from emocircuits.passes.recompute import copies_at_once, recomputed_blocks
from emocircuits.passes.record import CleanCorrupt, Pass, differentiate, forward, gradient
from emocircuits.passes.task import Task

Streams = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class FeatureSides(CleanCorrupt):
    """Both runs of one batch at the sites of the SAEs.

    Attributes:
        sites: site -> what happened there, in the order of the layers.
        alike: whether the runs are the same at the positions at which their prompts begin with the same
            tokens; not where one of them is pushed.
    """

    sites: Mapping[str, SiteRun] = field(default_factory=dict)
    alike: bool = True

    def metric_from(self, task: Task) -> FromSite:
        """The metric from a site on."""
        return self.once("from", lambda: FromSite.of(task, self.batch, prefix=self.alike))

    def with_gradients(self, grads: Streams, passes: float = 0) -> "FeatureSides":
        """The same with these gradients at the sites, and the passes that they cost."""
        sites = {
            site: replace(at, grad=grads[site]) if site in grads else at for site, at in self.sites.items()
        }
        return replace(self, sites=sites, passes=self.passes + passes)


def feature_sides(
    task: Task,
    batch: PairBatch,
    references: Mapping[Reference, ReferenceValues] | None = None,
    *,
    gradient: bool = True,
) -> FeatureSides:
    """Runs both sides of a batch: two forward passes, and one backward pass where `gradient`.

    Where a gradient is taken of long prompts, attention makes no patterns (`passes.attention`), and blocks
    are run once more in the backward pass where what they keep would not fit into two gigabytes.

    Args:
        task: the model, its metric and its SAEs.
        batch: prompt pairs of one length, or prompts with a reference.
        references: reference values that are known already (`reference_values`).
        gradient: whether to take the gradient at the live run.

    Raises:
        UserError: the metric is not one differentiable value per prompt.
        Failure: a site without gradient, or with NaN in it.
    """
    with fused_attention(task.model, batch.clean, wanted=gradient) as fused:
        live, passes = _live_run(task, batch, gradient, fused)
        if batch.reference is None:
            other = forward(task, batch.clean, batch.index, task.saes)
            clean, corrupt, values, spent = other, live, {}, 1
        else:
            known = (references or {}).get(batch.reference) or feature_references(task, batch.reference)
            clean, (corrupt, values) = live, _reference_run(task, batch, live, known)
            spent = 1 + known.passes
    sites = {
        site: SiteRun(
            dictionary,
            clean.values[site],
            corrupt.values[site],
            live.grads.get(site),
            values.get(site),
            batch.reference is not None,
        )
        for site, dictionary in task.dictionaries.items()
    }
    return FeatureSides(batch, clean, corrupt, passes + spent, batch.reference is not None, sites=sites)


def feature_references(task: Task, reference: Reference) -> ReferenceValues:
    """The reference values of all features and errors of a task, by site and `.features` or `.error`."""

    def read(tokens: Int[Tensor, "prompt pos"]) -> dict[str, Tensor]:
        streams = site_streams(task, tokens)
        parts = {}
        for site, dictionary in task.dictionaries.items():
            values = NodeValues.of(dictionary, streams[site])
            parts[site + FEATURES], parts[site + ERROR] = values.features, values.error
        return parts

    return ReferenceValues(reference, read)


@torch.no_grad()
def site_streams(task: Task, tokens: Int[Tensor, "prompt pos"]) -> Streams:
    """The streams at the sites of the SAEs on some prompts, one forward pass."""
    last = task.with_metric(_nothing)
    return forward(last, tokens, torch.arange(len(tokens)), task.dictionaries).values


@contextmanager
def gradients_from(task: Task, batch: PairBatch) -> Iterator[tuple[FromSite, int]]:
    """The metric from a site on, for gradients of long prompts, too; and the passes that one costs."""
    with (
        fused_attention(task.model, batch.corrupt) as fused,
        recomputed_blocks(task.model, batch.corrupt, fused=fused) as again,
    ):
        yield FromSite.of(task, batch, prefix=not (fused or again)), 3 if again else 2


def with_path_gradients(task: Task, sides: FeatureSides, steps: int) -> FeatureSides:
    """The sides with the gradient of every site averaged along its path from corrupt to clean.

    Raises:
        UserError: no step.
    """
    if steps < 1:
        raise UserError(f"{steps} steps of integrated gradients", expected="at least 1")
    grads, batch = {}, sides.batch
    alphas = (torch.arange(steps, device=batch.index.device) + 0.5) / steps
    with gradients_from(task, batch) as (metric_from, cost):
        at_once = copies_at_once(task.model, batch.corrupt, task.max_tokens)
        for site, at in sides.sites.items():
            total = torch.zeros_like(at.corrupt)
            for some in alphas.to(at.corrupt.dtype).split(at_once):
                middle = at.corrupt + some[:, None, None, None] * (at.clean - at.corrupt)
                total += _gradients_at(metric_from, batch, site, middle).sum(0)
            grads[site] = total / steps
    return sides.with_gradients(grads, cost * steps * len(grads))


def _gradients_at(
    metric_from: FromSite, batch: PairBatch, site: str, streams: Float[Tensor, "point prompt pos d_model"]
) -> Float[Tensor, "point prompt pos d_model"]:
    """dM/dx where the site holds these streams, all in one pass."""
    leaf = streams.flatten(0, 1).to(metric_from.task.dtype).detach().requires_grad_()
    rows = torch.arange(len(batch), device=batch.index.device).repeat(len(streams))
    with torch.enable_grad():
        values = metric_from(batch.corrupt[rows], batch.index[rows], site, leaf, rows=rows)
        return gradient(values, leaf, site).view_as(streams)


def _live_run(task: Task, batch: PairBatch, gradient: bool, fused: bool) -> tuple[Pass, int]:
    """The run that the gradient is taken on, and its passes."""
    tokens, sites = batch.clean if batch.reference is not None else batch.corrupt, tuple(task.dictionaries)
    if not gradient:
        return forward(task, tokens, batch.index, sites), 1
    with recomputed_blocks(task.model, tokens, fused=fused) as again:
        run = differentiate(task, tokens, batch.index, sites, start=sites[0])
    return run, 3 if again else 2


@torch.no_grad()
def _reference_run(
    task: Task, batch: PairBatch, live: Pass, known: ReferenceValues
) -> tuple[Pass, dict[str, NodeValues]]:
    """The streams that the reference stands for, the metric there and, by site, features and errors."""
    own = {}
    for site, dictionary in task.dictionaries.items():
        parts = NodeValues.of(dictionary, live.values[site])
        own[site + FEATURES], own[site + ERROR] = parts.features, parts.error
    held = known.at(batch.clean, own)
    values = {site: NodeValues(held[site + FEATURES], held[site + ERROR]) for site in task.dictionaries}
    # ablating everything leaves the decoder bias, which belongs to no node
    streams = {
        site: (dictionary.decode(values[site].features) + values[site].error)
        .expand_as(live.values[site])
        .to(live.values[site].dtype)
        for site, dictionary in task.dictionaries.items()
    }
    last = list(streams)[-1]
    run = forward(task, batch.clean, batch.index, changes={last: lambda x: streams[last]})
    return Pass(streams, {}, run.metric), values


def _nothing(logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, "prompt"]:
    return logits[:, -1, 0]
