"""The match scores in the order of their columns. Adding one is one file and one line here."""

from emocircuits.matching import (
    attribution_score,
    auroc,
    decoder_cosine,
    delta,
    encoder_cosine,
    nnls,
    omp,
    specificity,
    standardised_delta,
)
from emocircuits.matching.score import MATCH_SCORES

for _module in (
    delta,
    standardised_delta,
    auroc,
    decoder_cosine,
    attribution_score,
    encoder_cosine,
    specificity,
    nnls,
    omp,
):
    MATCH_SCORES.add(_module.CARD)

__all__ = ["MATCH_SCORES"]
