"""Matryoshka BatchTopK (Bussmann et al. 2025, arXiv 2503.17547): the first features alone must reconstruct,
too.

The first d_sae / 2^(levels-1) features reconstruct by themselves, then the first twice as many, and so on:
general features come first, which works against absorption. Training costs one more decoding per level.
"""

from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.errors import UserError
from emocircuits.sae.architectures.batchtopk import finish
from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture
from emocircuits.sae.settings import SAESettings


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' Matryoshka BatchTopK with `settings.levels` nested dictionaries."""
    d_sae = settings.d_sae(d_in)
    widths = [d_sae >> level for level in reversed(range(settings.levels))]
    if settings.levels < 2 or widths[0] < 1:
        raise UserError(
            f"sae.levels is {settings.levels}", expected=f"from 2 to {d_sae.bit_length()} for d_sae {d_sae}"
        )
    return MatryoshkaBatchTopKTrainingSAE(
        MatryoshkaBatchTopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=d_sae,
            k=float(settings.k),
            matryoshka_widths=widths,
            aux_loss_coefficient=settings.aux_coefficient,
            device=device,
            rescale_acts_by_decoder_norm=True,
            metadata=metadata,
        )
    )


ARCHITECTURES.add(
    Architecture(
        "matryoshka_batchtopk",
        "BatchTopK whose first features reconstruct alone",
        build,
        finish,
        splits=False,
    )
)
