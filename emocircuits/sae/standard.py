"""Standard (Bricken et al. 2023; Anthropic, April 2024 update): ReLU features, L1 penalty weighted by the decoder norms."""

from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architecture import ARCHITECTURES, Architecture, fold_norms
from emocircuits.sae.settings import SAESettings


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' standard SAE; `settings.sparsity` is the L1 coefficient, which rises over the first steps."""
    return StandardTrainingSAE(
        StandardTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.d_sae(d_in),
            l1_coefficient=settings.sparsity,
            l1_warm_up_steps=settings.sparsity_warm_up_steps,
            device=device,
            metadata=metadata,
        )
    )


ARCHITECTURES.register("standard", Architecture("ReLU features under an L1 penalty", build, fold_norms))
