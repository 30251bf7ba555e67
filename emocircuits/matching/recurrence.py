"""Do the matches of one SAE come back in SAEs of other seeds? And the space that an emotion's features span?

Features of one seed are often not found in another (Paulo & Belrose 2025), while the subspaces they span may
be, so both are reported next to chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocircuits.matching.decoder_cosine import unit

SAME = 0.7


@dataclass(frozen=True, eq=False)
class Recurrence:
    """How the matches of one emotion at one site recur in another dictionary.

    Attributes:
        cosines: of each match with the most similar match of the same emotion in the other; 0 where it has
            none.
        anywhere: of each match with the most similar feature of the other at all.
        subspace: mean squared cosine of the principal angles between the spans of the two sets of carriers; 1
            is the same span.
        chance: the same between the carriers and as many random features of the other.
    """

    cosines: Float[np.ndarray, "match"]
    anywhere: Float[np.ndarray, "match"]
    subspace: float
    chance: float


def recurrence(
    decoder: Float[np.ndarray, "feature d_model"],
    matches: Int[np.ndarray, "match"],
    carriers: Int[np.ndarray, "_"],
    other_decoder: Float[np.ndarray, "other d_model"],
    other_matches: Int[np.ndarray, "_"],
    other_carriers: Int[np.ndarray, "_"],
    random: Sequence[Int[np.ndarray, "_"]],
) -> Recurrence:
    """Compares the features of one emotion in two dictionaries of the same site.

    Args:
        decoder, matches, carriers: the first dictionary and the emotion's features in it.
        other_decoder, other_matches, other_carriers: the second.
        random: draws of as many features of the second.
    """
    rows, others = unit(decoder[matches]), unit(other_decoder)
    similar = rows @ others.T
    cosines = (
        similar[:, other_matches].max(axis=1) if len(other_matches) and len(rows) else np.zeros(len(rows))
    )
    spans = [overlap(decoder[carriers], other_decoder[chosen]) for chosen in random]
    return Recurrence(
        cosines=cosines,
        anywhere=similar.max(axis=1) if len(rows) else np.zeros(0),
        subspace=overlap(decoder[carriers], other_decoder[other_carriers]),
        chance=float(np.mean(spans)) if spans else 0.0,
    )


def overlap(first: Float[np.ndarray, "_ d_model"], second: Float[np.ndarray, "_ d_model"]) -> float:
    """Mean squared cosine of the principal angles between two row spaces; 0 where one of them is empty."""
    if not len(first) or not len(second):
        return 0.0
    bases = [_basis(rows) for rows in (first, second)]
    cosines = np.linalg.svd(bases[0] @ bases[1].T, compute_uv=False)
    return float((cosines**2).sum() / min(len(bases[0]), len(bases[1])))


def _basis(rows: Float[np.ndarray, "_ d_model"]) -> Float[np.ndarray, "_ d_model"]:
    _, lengths, basis = np.linalg.svd(np.asarray(rows, dtype=np.float64), full_matrices=False)
    return basis[lengths > 1e-9 * max(lengths.max(), 1e-30)]
