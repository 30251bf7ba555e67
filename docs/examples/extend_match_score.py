"""A match score: how far one unit of a feature moves the residual stream along an emotion, its length
included.
"""

from pathlib import Path

import numpy as np

from emocircuits import MATCH_SCORES, MatchScore, MatchSettings, Run, match_features


def projection(inputs):
    """Projection of the decoder row on the direction, in residual units `(emotion, feature)`."""
    return inputs.directions @ inputs.decoder.T


MATCH_SCORES.add(MatchScore("projection", "projection of the decoder row on the direction", projection))


def example(directory: Path) -> None:
    """Every registered score is computed by the next match; decoder rows have unit length here, so this one
    is the cosine.
    """
    run = Run.open(directory)
    matches = match_features(run.store, run.saes, run.directions, MatchSettings(permutations=20))
    assert np.allclose(matches.scores["projection"], matches.scores["cosine"], atol=1e-3)
