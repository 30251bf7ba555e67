"""The match scores. Adding one is one file and one line here."""

from emocircuits.matching import delta, standardised_delta, auroc, decoder_cosine, attribution_score  # noqa: F401, I001
from emocircuits.matching import encoder_cosine, specificity, nnls, omp  # noqa: F401
from emocircuits.matching.score import SCORES

__all__ = ["SCORES"]
