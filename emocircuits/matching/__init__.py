"""Matching SAE features with emotions: scores, the permutation null, and the table of matches.

Adding a score is one file and one line here.
"""

from emocircuits.matching import delta, standardised_delta, auroc, decoder_cosine, attribution_score  # noqa: F401, I001
from emocircuits.matching import encoder_cosine, specificity, nnls, omp  # noqa: F401
from emocircuits.matching.match import match_features
from emocircuits.matching.score import SCORES, MatchInputs, MatchScore
from emocircuits.matching.settings import MatchSettings

__all__ = ["SCORES", "MatchInputs", "MatchScore", "MatchSettings", "match_features"]
