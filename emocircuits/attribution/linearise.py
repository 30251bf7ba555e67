"""The passes every gradient method shares: both forward passes of a batch, and the gradient of the metric at every site.

The gradient is taken on the corrupt run, as TransformerLens' `attribution_patch` does, so an effect estimates what patching
the clean value into the corrupt run adds to the metric. Since a spliced site has d out/dx = I (`interventions.splice`), the
gradient at the plain stream x is also that of the splice: dM/df = decoder @ dM/dx and dM/de = dM/dx, with any number of
SAEs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float

from emocircuits.attribution.pairs import Metric, PairBatch, measure
from emocircuits.errors import Failure, UserError
from emocircuits.interventions.dictionary import Dictionary
from emocircuits.interventions.hooks import edited


@dataclass(frozen=True, eq=False)
class SiteRun:
    """One site on both runs of a batch.

    Attributes:
        dictionary: the SAE there.
        clean, corrupt: the stream.
        grad: gradient of the metric at the corrupt stream, or None where only forward passes were run.
        stream: the corrupt stream inside the autograd graph, where the graph was kept.
    """

    dictionary: Dictionary
    clean: Float[torch.Tensor, "prompt pos d_model"]
    corrupt: Float[torch.Tensor, "prompt pos d_model"]
    grad: Float[torch.Tensor, "prompt pos d_model"] | None = None
    stream: Float[torch.Tensor, "prompt pos d_model"] | None = None

    @cached_property
    def features_clean(self) -> Float[torch.Tensor, "prompt pos d_sae"]:
        """Feature activations on the clean run."""
        return self.dictionary.encode(self.clean)

    @cached_property
    def features_corrupt(self) -> Float[torch.Tensor, "prompt pos d_sae"]:
        """Feature activations on the corrupt run."""
        return self.dictionary.encode(self.corrupt)

    @cached_property
    def delta_features(self) -> Float[torch.Tensor, "prompt pos d_sae"]:
        """Feature activations, clean - corrupt."""
        return self.features_clean - self.features_corrupt

    @cached_property
    def delta_error(self) -> Float[torch.Tensor, "prompt pos d_model"]:
        """What the SAE leaves unexplained, clean - corrupt (the decoder bias cancels)."""
        return (self.clean - self.corrupt) - self.delta_features @ self.dictionary.decoder

    @cached_property
    def feature_grad(self) -> Float[torch.Tensor, "prompt pos d_sae"]:
        """dM/df on the corrupt run."""
        return self.grad @ self.dictionary.decoder.T


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


def run_pair(
    model: Any, dictionaries: Mapping[str, Dictionary], batch: PairBatch, metric: Metric, *,
    gradient: bool = True, keep_graph: bool = False,
) -> PairRun:
    """Runs both sides of a batch: two forward passes, and one backward pass where `gradient`.

    Args:
        model: any TransformerLens object; frozen parameters are fine.
        dictionaries: site -> dictionary, in the order of the layers.
        batch: prompt pairs of one length.
        metric: logits `(prompt, pos, d_vocab)` -> one value per prompt.
        gradient: whether to take the gradient at the corrupt run.
        keep_graph: whether the corrupt streams stay in the autograd graph, for edges.

    Raises:
        UserError: the metric is not one differentiable value per prompt.
        Failure: a site without gradient, or with NaN in it.
    """
    clean: dict[str, torch.Tensor] = {}
    corrupt: dict[str, torch.Tensor] = {}
    first = next(iter(dictionaries))
    with torch.no_grad(), _recorded(model, dictionaries, _into(clean)):
        metric_clean = measure(metric, model(batch.clean), batch.index)

    def enter(site: str, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_() if site == first else x.view_as(x)
        corrupt[site] = x
        return x

    if not gradient:
        with torch.no_grad(), _recorded(model, dictionaries, _into(corrupt)):
            metric_corrupt = measure(metric, model(batch.corrupt), batch.index)
        sites = {site: SiteRun(d, clean[site], corrupt[site]) for site, d in dictionaries.items()}
        return PairRun(batch, sites, metric_clean, metric_corrupt, passes=2)
    with torch.enable_grad(), _recorded(model, dictionaries, enter):
        metric_corrupt = measure(metric, model(batch.corrupt), batch.index)
        if not metric_corrupt.requires_grad:
            raise UserError("the metric has no gradient with respect to the logits",
                            expected="a differentiable function of the logits such as a logit difference",
                            cure="do not use argmax, detach or a threshold in it")
        grads = torch.autograd.grad(metric_corrupt.sum(), list(corrupt.values()), retain_graph=keep_graph, allow_unused=True)
    sites = {}
    for (site, x), grad in zip(corrupt.items(), grads, strict=True):
        if grad is None:
            raise Failure(f"no gradient of the metric reaches {site}", cure="check the site's hook and the metric")
        if not bool(torch.isfinite(grad).all()):
            raise Failure(f"the gradient of the metric at {site} is NaN or infinite",
                          cure="check the metric and the model's precision")
        sites[site] = SiteRun(dictionaries[site], clean[site], x.detach(), grad, x if keep_graph else None)
    return PairRun(batch, sites, metric_clean, metric_corrupt.detach(), passes=3)


@torch.no_grad()
def record_clean(model: Any, dictionaries: Mapping[str, Dictionary], batch: PairBatch) -> dict[str, torch.Tensor]:
    """The clean streams alone, one forward pass."""
    streams: dict[str, torch.Tensor] = {}
    with _recorded(model, dictionaries, _into(streams)):
        model(batch.clean)
    return streams


def _into(streams: dict[str, torch.Tensor]) -> Callable[[str, torch.Tensor], torch.Tensor]:
    def record(site: str, x: torch.Tensor) -> torch.Tensor:
        streams[site] = x
        return x

    return record


def _recorded(model: Any, dictionaries: Mapping[str, Dictionary], record: Callable[[str, torch.Tensor], torch.Tensor]):
    def edit_for(site: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def edit(x: torch.Tensor) -> torch.Tensor:
            width = dictionaries[site].d_in
            if x.shape[-1] != width:
                raise UserError(f"the SAE at {site} has d_in {width}", expected=f"the site's width {x.shape[-1]}")
            return record(site, x)

        return edit

    return edited(model, {site: edit_for(site) for site in dictionaries}, what="attribution", must_change=False)
