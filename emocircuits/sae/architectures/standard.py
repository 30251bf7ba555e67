"""Standard (Bricken et al. 2023; Anthropic, April 2024 update): ReLU features, L1 penalty weighted by the
decoder norms.
"""

from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig

from emocircuits.sae.architectures.card import ARCHITECTURES, Architecture, fold_norms
from emocircuits.sae.architectures.l1_penalty import with_l1_penalty

build = with_l1_penalty(StandardTrainingSAE, StandardTrainingSAEConfig)

ARCHITECTURES.add(Architecture("standard", "ReLU features under an L1 penalty", build, fold_norms))
