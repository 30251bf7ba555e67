"""TopK (Gao et al. 2024, arXiv 2406.04093): the k largest pre-activations of each token stay,
through a ReLU.
"""

from sae_lens import TopKTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture, fold_norms
from emocircuits.sae.settings import SAESettings
from emocircuits.sae.training.sparse_training import SparseTopKTrainingSAE


def build(settings: SAESettings, d_in: int, metadata: SAEMetadata, device: str) -> TrainingSAE:
    """sae-lens' TopK; selection is by activation times decoder norm, so norms may drift while training."""
    config = TopKTrainingSAEConfig(
        d_in=d_in,
        d_sae=settings.d_sae(d_in),
        k=settings.k,
        aux_loss_coefficient=settings.aux_coefficient,
        device=device,
        rescale_acts_by_decoder_norm=True,
        metadata=metadata,
    )
    return SparseTopKTrainingSAE(config, kernel=settings.kernel, encoder_dtype=settings.encoder_dtype)


ARCHITECTURES.add(Architecture("topk", "the k largest pre-activations of each token", build, fold_norms))
