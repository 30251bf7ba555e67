"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): the k · batch largest pre-activations of a whole batch
stay.

Saved as a JumpReLU SAE with one threshold, as sae-lens does; the threshold is measured after training.
"""

from sae_lens import BatchTopKTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture, Blocks, fold_norms
from emocircuits.sae.architectures.threshold import calibrate_threshold
from emocircuits.sae.settings import SAESettings
from emocircuits.sae.training.sparse_training import SparseBatchTopKTrainingSAE


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' BatchTopK; selection is by activation times decoder norm, so norms may drift while
    training.
    """
    config = BatchTopKTrainingSAEConfig(
        d_in=d_in,
        d_sae=settings.d_sae(d_in),
        k=float(settings.k),
        aux_loss_coefficient=settings.aux_coefficient,
        device=device,
        rescale_acts_by_decoder_norm=True,
        metadata=metadata,
    )
    return SparseBatchTopKTrainingSAE(config, kernel=settings.kernel, encoder_dtype=settings.encoder_dtype)


def finish(sae: TrainingSAE, rows: Blocks) -> None:
    """Folds the norms, then sets the threshold at which held-out rows have k active features on average."""
    fold_norms(sae, rows)
    calibrate_threshold(sae, rows)


ARCHITECTURES.add(
    Architecture("batchtopk", "the k · batch largest pre-activations of a batch", build, finish)
)
