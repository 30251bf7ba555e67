"""How much a feature's activation answers to its preactivation between two runs."""

import torch
from jaxtyping import Float

from emocircuits.graphs.site_run import SiteRun

SLOPE_LIMIT = 3.0


def slopes(run: SiteRun, limit: float = SLOPE_LIMIT) -> Float[torch.Tensor, "prompt pos d_sae"]:
    """d activation / d preactivation of every feature between the corrupt and the clean run.

    Where nodes are compared with a baseline it is that of the clean run: 1 where the feature is active.
    """
    if run.ablated:
        return (run.features_clean != 0).to(run.features_clean.dtype)
    clean, corrupt = run.features_clean != 0, run.features_corrupt != 0
    gap = run.dictionary.preactivation(run.clean) - run.dictionary.preactivation(run.corrupt)
    secant = (run.delta_features / torch.where(gap == 0, torch.ones_like(gap), gap)).clamp(0, limit)
    secant = torch.where(gap == 0, torch.zeros_like(secant), secant)
    one = torch.ones_like(secant)
    return torch.where(clean & corrupt, one, torch.where(clean | corrupt, secant, 0 * one))
