"""The passes every gradient method shares: both forward passes of a batch, and the gradient of the metric at
every site.

The gradient is taken on the corrupt run, as TransformerLens' `attribution_patch` does, so an effect estimates
what patching the clean value into the corrupt run adds to the metric. Where prompts have a baseline instead
of an aligned partner (`attribution.baselines`) the clean run is the live one: the gradient is taken there,
patches go there. Since a spliced site has d out/dx = I (`interventions.splice`), the gradient at the plain
stream x is also that of the splice: dM/df = decoder @ dM/dx and dM/de = dM/dx, with any number of SAEs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float

from emocircuits.errors import Failure, UserError
from emocircuits.graphs.site_run import SiteRun
from emocircuits.interventions.ablate import Baseline as Values
from emocircuits.passes.attention import fused_attention
from emocircuits.passes.edit import edited
from emocircuits.passes.last_position import run_metric
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.passes.recompute import recomputed_blocks
from emocircuits.sae.dictionary import Dictionary

Streams = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class PairRun:
    """Both runs of one batch.

    Attributes:
        batch: the pairs.
        sites: site -> what happened there, in the order of the layers.
        metric_clean, metric_corrupt: the metric per prompt.
        passes: forward and backward passes spent.
    """

    batch: PairBatch
    sites: dict[str, SiteRun]
    metric_clean: Float[torch.Tensor, "prompt"]
    metric_corrupt: Float[torch.Tensor, "prompt"]
    passes: int

    @property
    def ablated(self) -> bool:
        """Whether nodes are compared with a baseline, in the clean run."""
        return self.batch.baseline is not None

    @property
    def metric_live(self) -> Float[torch.Tensor, "prompt"]:
        """The metric of the run that patches go into."""
        return self.metric_clean if self.ablated else self.metric_corrupt

    @property
    def sign(self) -> int:
        """+1 where a patch brings the clean value in, -1 where it takes it out."""
        return -1 if self.ablated else 1


def run_pair(
    model: Any,
    dictionaries: Mapping[str, Dictionary],
    batch: PairBatch,
    metric: Metric,
    *,
    gradient: bool = True,
    keep_graph: bool = False,
) -> PairRun:
    """Runs both sides of a batch: two forward passes, and one backward pass where `gradient`.

    Where a gradient is taken of long prompts, attention makes no patterns (`models.fused_attention`), and
    blocks are run once more in the backward pass where what they keep would not fit into two gigabytes.

    Args:
        model: any TransformerLens object; frozen parameters are fine.
        dictionaries: site -> dictionary, in the order of the layers.
        batch: prompt pairs of one length, or prompts with a baseline.
        metric: logits `(prompt, pos, d_vocab)` -> one value per prompt.
        gradient: whether to take the gradient at the live run.
        keep_graph: whether the live streams stay in the autograd graph, for edges.

    Raises:
        UserError: the metric is not one differentiable value per prompt.
        Failure: a site without gradient, or with NaN in it.
    """
    with fused_attention(model, batch.clean, wanted=gradient) as fused:
        return _both_runs(model, dictionaries, batch, metric, gradient, keep_graph, fused)


def _both_runs(
    model: Any,
    dictionaries: Mapping[str, Dictionary],
    batch: PairBatch,
    metric: Metric,
    gradient: bool,
    keep_graph: bool,
    fused: bool,
) -> PairRun:
    live, value, grads, inside, passes = _live_run(
        model, dictionaries, batch, metric, gradient, keep_graph, fused
    )
    if batch.baseline is not None:
        other, baseline = _baseline(model, dictionaries, batch, live)
        with (
            torch.no_grad(),
            _recorded(model, list(dictionaries.values())[-1:], lambda site, x: other[site].to(x.dtype)),
        ):
            metric_other = run_metric(model, batch.clean, metric, batch.index)
        clean, corrupt, metrics, passes = (
            live,
            other,
            (value, metric_other),
            passes + 1 + batch.baseline.passes,
        )
    else:
        other, baseline = {}, {}
        with torch.no_grad(), _recorded(model, dictionaries.values(), _into(other)):
            metric_other = run_metric(model, batch.clean, metric, batch.index)
        clean, corrupt, metrics, passes = other, live, (metric_other, value), passes + 1
    sites = {
        site: SiteRun(
            dictionary,
            clean[site],
            corrupt[site],
            grads.get(site),
            inside.get(site),
            baseline.get(site),
            batch.baseline is not None,
        )
        for site, dictionary in dictionaries.items()
    }
    return PairRun(batch, sites, *metrics, passes)


def _live_run(
    model: Any,
    dictionaries: Mapping[str, Dictionary],
    batch: PairBatch,
    metric: Metric,
    gradient: bool,
    keep_graph: bool,
    fused: bool,
) -> tuple[Streams, torch.Tensor, Streams, Streams, int]:
    """The run that the gradient is taken on: streams, metric, gradients, streams inside the graph, and
    passes.
    """
    tokens, seen = batch.clean if batch.baseline is not None else batch.corrupt, {}
    if not gradient:
        with torch.no_grad(), _recorded(model, dictionaries.values(), _into(seen)):
            value = run_metric(model, tokens, metric, batch.index)
        return seen, value, {}, {}, 1
    first = next(iter(dictionaries))

    def enter(site: str, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_() if site == first else x.view_as(x)
        # a block that is run once more hands on what it has
        return seen.setdefault(site, x) if site not in seen else x

    with (
        torch.enable_grad(),
        _recorded(model, dictionaries.values(), enter),
        recomputed_blocks(model, tokens, allowed=not keep_graph, fused=fused) as again,
    ):
        value = run_metric(model, tokens, metric, batch.index)
        if not value.requires_grad:
            raise UserError(
                "the metric has no gradient with respect to the logits",
                expected="a differentiable function of the logits such as a logit difference",
                cure="do not use argmax, detach or a threshold in it",
            )
        found = torch.autograd.grad(
            value.sum(), list(seen.values()), retain_graph=keep_graph, allow_unused=True
        )
    for site, grad in zip(seen, found, strict=True):
        if grad is None:
            raise Failure(
                f"no gradient of the metric reaches {site}", cure="check the site's hook and the metric"
            )
        if not bool(torch.isfinite(grad).all()):
            raise Failure(
                f"the gradient of the metric at {site} is NaN or infinite",
                cure="check the metric and the model's precision",
            )
    streams = {site: x.detach() for site, x in seen.items()}
    return (
        streams,
        value.detach(),
        dict(zip(seen, found, strict=True)),
        seen if keep_graph else {},
        3 if again else 2,
    )


@torch.no_grad()
def _baseline(
    model: Any, dictionaries: Mapping[str, Dictionary], batch: PairBatch, live: Streams
) -> tuple[Streams, dict[str, Values]]:
    """The streams that the baseline stands for and, where it is no stream of a prompt, its features and
    errors.
    """

    def streams(tokens: torch.Tensor) -> Streams:
        seen: Streams = {}
        with _recorded(model, dictionaries.values(), _into(seen)):
            model(tokens)
        return seen

    def parts(tokens: torch.Tensor) -> Streams:
        found = {}
        for site, x in streams(tokens).items():
            features = dictionaries[site].encode(x)
            found[f"{site} features"], found[f"{site} error"] = (
                features,
                x - dictionaries[site].decode(features),
            )
        return found

    if batch.baseline.name == "resample":
        return batch.baseline.values(streams, live, batch.clean), {}
    names = tuple(f"{site} {part}" for site in dictionaries for part in ("features", "error"))
    if batch.baseline.name == "mean":
        means = batch.baseline.mean(parts, names)
    else:
        widths = {"features": "d_sae", "error": "d_in"}
        means = {
            name: dictionaries[site].decoder.new_zeros(getattr(dictionaries[site], widths[part]))
            for name, (site, part) in ((name, name.split(" ")) for name in names)
        }
    values = {
        site: Values(means[f"{site} features"][None, None], means[f"{site} error"][None, None])
        for site in dictionaries
    }
    # ablating everything leaves the decoder bias, which belongs to no node
    return {
        site: (dictionaries[site].decode(one.features) + one.error).expand_as(live[site]).to(live[site].dtype)
        for site, one in values.items()
    }, values


@torch.no_grad()
def record_clean(
    model: Any, dictionaries: Mapping[str, Dictionary], batch: PairBatch
) -> dict[str, torch.Tensor]:
    """The clean streams alone, one forward pass."""
    streams: dict[str, torch.Tensor] = {}
    with _recorded(model, dictionaries.values(), _into(streams)):
        model(batch.clean)
    return streams


def _into(streams: dict[str, torch.Tensor]) -> Callable[[str, torch.Tensor], torch.Tensor]:
    def record(site: str, x: torch.Tensor) -> torch.Tensor:
        streams[site] = x
        return x

    return record


def _recorded(
    model: Any, dictionaries: Iterable[Dictionary], record: Callable[[str, torch.Tensor], torch.Tensor]
):
    def edit_for(dictionary: Dictionary) -> Callable[[torch.Tensor], torch.Tensor]:
        def edit(x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] != dictionary.d_in:
                raise UserError(
                    f"the SAE at {dictionary.site} has d_in {dictionary.d_in}",
                    expected=f"the site's width {x.shape[-1]}",
                )
            return record(dictionary.site, x)

        return edit

    return edited(
        model, {one.site: edit_for(one) for one in dictionaries}, what="attribution", must_change=False
    )
