"""Matching SAE features with emotions: scores, the permutation null, and the table of matches.

Adding a score is one file and one line in `emocircuits.matching.scores`.
"""

from emocircuits.lazy import lazy

_NAMES = {
    "MATCH_SCORES": "scores",
    "MatchInputs": "score",
    "MatchScore": "score",
    "MatchSettings": "settings",
    "match_features": "match",
}
__all__ = list(_NAMES)
__getattr__ = lazy(__name__, _NAMES)
