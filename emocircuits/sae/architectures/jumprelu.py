"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435): one learned threshold per feature, L0 drawn to a
target.
"""

from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture, fold_norms
from emocircuits.sae.settings import SAESettings

BANDWIDTH, FIRST_THRESHOLD = 2.0, 0.5


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' JumpReLU with the quadratic penalty of Gemma Scope 2, `sparsity · 2/k · (L0 - k)²`.

    So `k` means the same as for the TopK kinds. The straight-through estimator also passes to the encoder,
    and bandwidth and first threshold are far above sae-lens' defaults: runs here have hundreds of steps, and
    what the penalty shuts must still feel a gradient (at the organism's middle layer bandwidths 0.5, 1 and 2
    left 31, 13 and 3 % of the features dead).
    """
    return JumpReLUTrainingSAE(
        JumpReLUTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.d_sae(d_in),
            jumprelu_init_threshold=FIRST_THRESHOLD,
            jumprelu_bandwidth=BANDWIDTH,
            jumprelu_sparsity_loss_mode="quadratic",
            jumprelu_ste_to_input=True,
            target_l0=float(settings.k),
            l0_coefficient=settings.sparsity,
            l0_warm_up_steps=settings.sparsity_warm_up_steps,
            device=device,
            metadata=metadata,
        )
    )


ARCHITECTURES.add(
    Architecture(
        "jumprelu", "a learned threshold per feature, L0 drawn to k", build, fold_norms, splits=False
    )
)
