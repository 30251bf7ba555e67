"""Take SAE features or error nodes out: give them a baseline value while everything else runs live.

A baseline is what an ablated node is set to (Wang et al. 2022; Marks et al. 2024): `resample` its value on the corrupt prompt,
`mean` its mean over corrupt prompts and positions, `zero` nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float

from emocircuits.errors import UserError
from emocircuits.interventions.splice import Leaves, splice
from emocircuits.registry import Registry


@dataclass(frozen=True, eq=False)
class Keep:
    """Which nodes of one site stay live; the rest take the baseline.

    Attributes:
        features: per batch row, or one row for all.
        error: the same for the error node.
    """

    features: Bool[torch.Tensor, "#prompt d_sae"]
    error: Bool[torch.Tensor, "#prompt"]


@dataclass(frozen=True, eq=False)
class Baseline:
    """The values ablated nodes of one site take; axes of length one are shared.

    Attributes:
        features: feature activations.
        error: error vectors.
    """

    features: Float[torch.Tensor, "#prompt #pos d_sae"]
    error: Float[torch.Tensor, "#prompt #pos d_in"]


def _resample(corrupt: Baseline) -> Baseline:
    return corrupt


def _mean(corrupt: Baseline) -> Baseline:
    return Baseline(corrupt.features.mean((0, 1), keepdim=True), corrupt.error.mean((0, 1), keepdim=True))


def _zero(corrupt: Baseline) -> Baseline:
    return Baseline(torch.zeros_like(corrupt.features[:1, :1]), torch.zeros_like(corrupt.error[:1, :1]))


BASELINES: Registry = Registry("ablation")
BASELINES.register("resample", _resample)
BASELINES.register("mean", _mean)
BASELINES.register("zero", _zero)


@contextmanager
def ablate(
    model: Any, saes: Mapping[str, Any], keep: Mapping[str, Keep], baseline: Mapping[str, Baseline]
) -> Iterator[dict[str, Leaves]]:
    """Sets every node that is not kept to its baseline, at every site that `keep` names, in each forward pass.

    Kept nodes are computed live, so they see what the ablations upstream did to them. At a site, with masks m and live (f, e),
    the stream becomes `x + ((1 - m_f) (f_base - f)) @ decoder + (1 - m_e) (e_base - e)`.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; only those of `keep` are spliced.
        keep: site -> nodes that stay.
        baseline: site -> values of the others.

    Raises:
        UserError: a site without SAE or baseline.
    """
    for site in keep:
        if site not in saes or site not in baseline:
            raise UserError(f"no {'SAE' if site not in saes else 'baseline'} for the ablation at {site}")

    def replace_at(site: str) -> Any:
        kept, base = keep[site], baseline[site]

        def replace(features: torch.Tensor, error: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return (torch.where(kept.features[:, None, :], features, base.features),
                    torch.where(kept.error[:, None, None], error, base.error))

        return replace

    with splice(model, {site: saes[site] for site in keep}, replace={site: replace_at(site) for site in keep}) as leaves:
        yield leaves
