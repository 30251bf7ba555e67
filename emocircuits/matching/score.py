"""What a match score sees and gives. Positive scores (above 0.5 for AUROC) mean more of the emotion."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocircuits.matching.contrast import StoryContrast
from emocircuits.registry import Registry


@dataclass(frozen=True, eq=False)
class MatchInputs:
    """Everything known at one site.

    Attributes:
        features: story means of the feature activations.
        contrast: labels of these stories.
        held_features, held_labels: the same for stories that had no part in directions or selection.
        decoder: what one unit of each feature writes into the stream.
        directions: unit emotion directions.
        encoder: what each feature reads.
    """

    features: Float[np.ndarray, "story feature"]
    contrast: StoryContrast
    held_features: Float[np.ndarray, "held feature"]
    held_labels: Int[np.ndarray, "held"]
    decoder: Float[np.ndarray, "feature d_model"]
    directions: Float[np.ndarray, "emotion d_model"]
    encoder: Float[np.ndarray, "d_model feature"]


@dataclass(frozen=True)
class MatchScore:
    """A score of every feature for every emotion.

    Attributes:
        name: its name, also its column in the table of matches.
        summary: one line.
        compute: inputs of one site -> scores.
    """

    name: str
    summary: str
    compute: Callable[[MatchInputs], Float[np.ndarray, "emotion feature"]]


MATCH_SCORES: Registry[MatchScore] = Registry("match score")
