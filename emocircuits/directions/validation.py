"""How well directions read emotions: held-out one-against-all-others AUROC."""

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata


def one_vs_others_auroc(
    scores: Float[np.ndarray, "story emotion"], labels: Int[np.ndarray, "story"]
) -> Float[np.ndarray, "emotion"]:
    """Area under the ROC curve of every column: stories of that emotion against all others.

    Exact, from ranks (Mann & Whitney 1947), ties count one half. NaN for an emotion with no story or with all of them.

    Args:
        scores: projection of each story on each direction.
        labels: the column each story belongs to (-1: to none).
    """
    ranks = rankdata(scores, axis=0)
    positive = labels[:, None] == np.arange(scores.shape[1])
    n_positive = positive.sum(axis=0).astype(np.float64)
    n_negative = len(labels) - n_positive
    wins = (ranks * positive).sum(axis=0) - n_positive * (n_positive + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (n_positive * n_negative)


def story_projections(
    story_means: Float[np.ndarray, "story site d_model"], vectors: Float[np.ndarray, "site direction d_model"]
) -> Float[np.ndarray, "site story direction"]:
    """Projection of every story mean on every direction, in residual units; positive = more of it."""
    return np.einsum("nsd,sed->sne", story_means, vectors, optimize=True)


def held_out_auroc(
    story_means: Float[np.ndarray, "story site d_model"],
    labels: Int[np.ndarray, "story"],
    vectors: Float[np.ndarray, "site emotion d_model"],
) -> Float[np.ndarray, "site emotion"]:
    """`one_vs_others_auroc` at every site."""
    projections = story_projections(story_means, vectors)
    return np.stack([one_vs_others_auroc(scores, labels) for scores in projections])
