"""Matching pursuit (Costa et al. 2025, arXiv 2506.03093): features are taken one by one, each from what the
last ones left.

Encoder and decoder are one matrix. A token's code comes from k steps instead of one product, which costs k
products more and reconstructs far better from as many features, because a feature is not hidden by others
that point nearly the same way.
"""

import torch
from sae_lens import MatchingPursuitTrainingSAE, MatchingPursuitTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture, Blocks
from emocircuits.sae.settings import SAESettings


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' matching pursuit with exactly k steps; a feature that is taken twice counts once, so L0 is k
    at most.
    """
    return MatchingPursuitTrainingSAE(
        MatchingPursuitTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.d_sae(d_in),
            residual_threshold=0.0,
            max_iterations=settings.k,
            stop_on_duplicate_support=False,
            decoder_init_norm=1.0,
            device=device,
            metadata=metadata,
        )
    )


@torch.no_grad()
def to_unit_rows(sae: TrainingSAE) -> None:
    """Keeps decoder rows at length one: only then does a step take off exactly what its feature explains."""
    sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))


def finish(sae: TrainingSAE, rows: Blocks) -> None:
    """Nothing is left to do. Reads no rows."""


ARCHITECTURES.add(
    Architecture(
        "matching_pursuit",
        "k features one by one, each from what the last ones left",
        build,
        finish,
        after_step=to_unit_rows,
    )
)
