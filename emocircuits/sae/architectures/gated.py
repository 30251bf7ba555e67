"""Gated (Rajamanoharan et al. 2024, arXiv 2404.16014): one path decides which features are on, another how
strong.
"""

from sae_lens import GatedTrainingSAE, GatedTrainingSAEConfig

from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture, fold_norms
from emocircuits.sae.architectures.l1_penalty import with_l1_penalty

build = with_l1_penalty(GatedTrainingSAE, GatedTrainingSAEConfig)

ARCHITECTURES.add(
    Architecture("gated", "a gate under an L1 penalty, magnitudes without one", build, fold_norms)
)
