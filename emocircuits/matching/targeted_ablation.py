"""Do an emotion's features carry the reading of this emotion, and of no other? (targeted probe perturbation)

Each emotion's probe is the projection on its direction. Its matched features are taken out of the held-out
story means; the probe's AUROC should fall, those of the other emotions' probes should not (Marks et al. 2024;
Karvonen et al. 2025, whose score is this difference of accuracies). Taking features out of means is exact:
story means are linear in the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class TargetedAblation:
    """Falls of the AUROC; 0 for an emotion without features.

    Attributes:
        own: of the emotion's own probe.
        others: of the other emotions' probes, on average.
        random: of the emotion's own probe when as many random features of the same firing rates are taken
            out.
    """

    own: Float[np.ndarray, "emotion"]
    others: Float[np.ndarray, "emotion"]
    random: Float[np.ndarray, "emotion"]


def targeted_ablation(
    stream: Float[np.ndarray, "story d_model"],
    features: Float[np.ndarray, "story feature"],
    labels: Int[np.ndarray, "story"],
    decoder: Float[np.ndarray, "feature d_model"],
    directions: Float[np.ndarray, "emotion d_model"],
    matched: Sequence[Int[np.ndarray, "_"]],
    random: Sequence[Int[np.ndarray, "_"]],
) -> TargetedAblation:
    """Takes `matched[e]` (and `random[e]`) out for every emotion e.

    Args:
        stream, features, labels: held-out stories.
        decoder, directions: as for a match.
        matched: features of each emotion; none is allowed.
        random: as many others of each emotion.
    """
    probes = directions.astype(np.float32)
    readings = probes @ stream.astype(np.float32).T
    written = probes @ decoder.astype(np.float32).T
    intact = probe_auroc(readings, labels, np.arange(len(probes)))
    own, others, by_chance = (np.zeros(len(probes)) for _ in range(3))
    for emotion, chosen in enumerate(matched):
        if not len(chosen):
            continue
        drop = intact - probe_auroc(
            readings - written[:, chosen] @ features[:, chosen].T, labels, np.arange(len(probes))
        )
        own[emotion] = drop[emotion]
        others[emotion] = (drop.sum() - drop[emotion]) / max(1, len(probes) - 1)
        if len(random[emotion]):
            taken = written[emotion, random[emotion]] @ features[:, random[emotion]].T
            after = probe_auroc((readings[emotion] - taken)[None], labels, np.array([emotion]))[0]
            by_chance[emotion] = intact[emotion] - after
    return TargetedAblation(own, others, by_chance)


def probe_auroc(
    readings: Float[np.ndarray, "probe story"], labels: Int[np.ndarray, "story"], of: Int[np.ndarray, "probe"]
) -> Float[np.ndarray, "probe"]:
    """AUROC of each probe for its own label against all others (of equal readings half counts); 0.5 where it
    cannot be told.
    """
    counts = np.bincount(labels, minlength=int(of.max(initial=0)) + 1)
    n_positive, starts = counts[of], (np.cumsum(counts) - counts)[of]
    places = np.arange(n_positive.max(initial=0))
    own_stories = np.argsort(labels, kind="stable")[
        np.minimum(starts[:, None] + places, len(labels) - 1)  # rows shorter than the longest do not count
    ]
    ordered, own = (
        torch.from_numpy(part)
        for part in (np.sort(readings, axis=1), np.take_along_axis(readings, own_stories, axis=1))
    )
    below, up_to = (torch.searchsorted(ordered, own, right=right).numpy() for right in (False, True))
    ranks = np.where(places < n_positive[:, None], (below + up_to + 1) / 2, 0.0)
    wins = ranks.sum(axis=1) - n_positive * (n_positive + 1) / 2
    pairs = n_positive * (len(labels) - n_positive)
    return np.divide(wins, pairs, out=np.full(len(readings), 0.5), where=pairs > 0)
