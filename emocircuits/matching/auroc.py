"""AUROC of each feature's story mean: one emotion against all others, on held-out stories.

Features are ranked over stories once (ties averaged); the rank sums of all emotions are one matrix product
(Mann & Whitney 1947).
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, stats

from emocircuits.matching.score import MatchInputs, MatchScore


def auroc(inputs: MatchInputs) -> Float[np.ndarray, "emotion feature"]:
    """Chance that a story of the emotion has more of the feature than a story of another; 0.5 where it cannot
    be told.
    """
    return one_vs_others(inputs.held_features, inputs.held_labels, inputs.contrast.n_emotions)


CARD = MatchScore(
    "auroc", "AUROC of the story mean on held-out stories, the emotion against all others", auroc
)


def one_vs_others(
    features: Float[np.ndarray, "story feature"], labels: Int[np.ndarray, "story"], n_emotions: int
) -> Float[np.ndarray, "emotion feature"]:
    """AUROC of every feature for every emotion; 0.5 for an emotion without stories."""
    ranks = stats.rankdata(features, axis=0)
    n = len(labels)
    counts = np.bincount(labels, minlength=n_emotions)[:, None]
    member = sparse.csr_matrix((np.ones(n), (labels, np.arange(n))), shape=(n_emotions, n))
    wins = member @ ranks - counts * (counts + 1) / 2
    pairs = counts * (n - counts)
    return np.divide(wins, pairs, out=np.full_like(wins, 0.5), where=pairs > 0)
