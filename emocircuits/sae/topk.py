"""TopK (Gao et al. 2024, arXiv 2406.04093): the k largest pre-activations of each token stay, through a ReLU."""

from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architecture import ARCHITECTURES, Architecture
from emocircuits.sae.settings import SAESettings


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' TopK; selection is by activation times decoder norm, so norms may drift while training."""
    return TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=settings.d_sae(d_in),
            k=settings.k,
            aux_loss_coefficient=settings.aux_coefficient,
            device=device,
            rescale_acts_by_decoder_norm=True,
            metadata=metadata,
        )
    )


def finish(sae: TrainingSAE) -> None:
    """Folds the decoder norms into the encoder: decoder rows get unit length, the outputs stay."""
    sae.fold_W_dec_norm()
    sae.cfg.rescale_acts_by_decoder_norm = False


ARCHITECTURES.register("topk", Architecture(build, finish))
