"""How the architectures under an L1 penalty are built: the same settings, sae-lens' own classes."""

from collections.abc import Callable

from sae_lens import TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.settings import SAESettings


def with_l1_penalty(
    sae_class: type[TrainingSAE], config_class: type
) -> Callable[[SAESettings, int, SAEMetadata, str], TrainingSAE]:
    """A builder for `Architecture`: `settings.sparsity` is the L1 coefficient, which rises over the first
    steps.
    """

    def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
        return sae_class(
            config_class(
                d_in=d_in,
                d_sae=settings.d_sae(d_in),
                l1_coefficient=settings.sparsity,
                l1_warm_up_steps=settings.sparsity_warm_up_steps,
                device=device,
                metadata=metadata,
            )
        )

    return build
