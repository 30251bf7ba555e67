"""Gated (Rajamanoharan et al. 2024, arXiv 2404.16014): one path decides which features are on, another how strong."""

from sae_lens import GatedTrainingSAE, GatedTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architecture import ARCHITECTURES, Architecture, fold_norms
from emocircuits.sae.settings import SAESettings


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' gated SAE; `settings.sparsity` is the L1 coefficient of the gate, which rises over the first steps."""
    return GatedTrainingSAE(
        GatedTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.d_sae(d_in),
            l1_coefficient=settings.sparsity,
            l1_warm_up_steps=settings.sparsity_warm_up_steps,
            device=device,
            metadata=metadata,
        )
    )


ARCHITECTURES.register("gated", Architecture("a gate under an L1 penalty, magnitudes without one", build, fold_norms))
