"""The contrast every score uses: the mean over an emotion's stories minus the mean over the other emotions'
means.

It is linear in the stories, so whatever holds for every row of activations holds for the contrast of their
means.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse


@dataclass(frozen=True, eq=False)
class StoryContrast:
    """One emotion against the mean over the others, every emotion weighing the same.

    Attributes:
        labels: emotion of each story, 0 … n_emotions - 1.
        n_emotions: number of emotions; each has a story.
    """

    labels: Int[np.ndarray, "story"]
    n_emotions: int

    @property
    def counts(self) -> Int[np.ndarray, "emotion"]:
        """Stories per emotion."""
        return np.bincount(self.labels, minlength=self.n_emotions)

    def averages(self) -> sparse.csr_matrix:
        """The matrix (emotion, story) that takes means over the stories of each emotion."""
        weights = (1.0 / self.counts)[self.labels]
        place = (self.labels, np.arange(len(self.labels)))
        return sparse.csr_matrix((weights, place), shape=(self.n_emotions, len(self.labels)))

    def apply(self, values: Float[np.ndarray, "story width"]) -> Float[np.ndarray, "emotion width"]:
        """The contrast of each emotion, float64."""
        return against_others(self.averages() @ np.asarray(values, dtype=np.float64))

    def standard_error(self) -> Float[np.ndarray, "emotion"]:
        """Standard deviation of each contrast for independent stories of unit variance."""
        inverse = 1.0 / self.counts
        return np.sqrt(inverse + (inverse.sum() - inverse) / (self.n_emotions - 1) ** 2)


def against_others(
    means: Float[np.ndarray, "*batch emotion width"],
) -> Float[np.ndarray, "*batch emotion width"]:
    """Each emotion's mean minus the mean over the other emotions."""
    n = means.shape[-2]
    return (means - means.mean(axis=-2, keepdims=True)) * (n / (n - 1))
