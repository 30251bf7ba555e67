"""One site at a time from story means to scores and null; then all sites together to p, q and the table of
matches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.delta import residual_share
from emocircuits.matching.direction_null import DirectionNull, direction_null
from emocircuits.matching.frequency_matched import frequency_matched
from emocircuits.matching.permutation import family_wise_p, null_maxima, q_values
from emocircuits.matching.score import MatchInputs
from emocircuits.matching.scores import MATCH_SCORES
from emocircuits.matching.settings import MatchSettings
from emocircuits.matching.story_features import StoryFeatures
from emocircuits.matching.targeted_ablation import TargetedAblation, targeted_ablation
from emocircuits.numerics import generator

LEVELS = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Labels:
    """Which stories show what: rows of `StoryFeatures`, and the emotion of each.

    Attributes:
        fit: stories behind directions and selection.
        contrast: their emotions.
        held: stories that had no part in either; the same as `fit` where there are none.
        held_emotions: their emotions.
    """

    fit: Int[np.ndarray, "story"]
    contrast: StoryContrast
    held: Int[np.ndarray, "held"]
    held_emotions: Int[np.ndarray, "held"]


@dataclass(frozen=True, eq=False)
class SiteMatch:
    """What the pass over one site leaves: all scores, and what its permuted labels give."""

    scores: Mapping[str, Float[np.ndarray, "emotion feature"]]
    residual_share: Float[np.ndarray, "emotion"]
    density: Float[np.ndarray, "feature"]
    eligible: Bool[np.ndarray, "feature"]
    maxima: Float[np.ndarray, "permutation emotion"]
    direction_null: DirectionNull
    ablation: TargetedAblation


def match_site(
    site: str,
    stories: StoryFeatures,
    labels: Labels,
    directions: Float[np.ndarray, "emotion d_model"],
    orders: Int[np.ndarray, "permutation story"],
    how: MatchSettings,
    seed: int = 0,
) -> SiteMatch:
    """Scores every feature of one site against every emotion.

    Args:
        site: hook name (it seeds the random features).
        stories: what the SAE sees in the stories.
        labels: their labels.
        directions: unit emotion directions of the site.
        orders: permutations of the fit stories.
        how: settings.
        seed: seed of random directions and features.
    """
    features, stream, firings = (
        values[labels.fit] for values in (stories.features, stories.stream, stories.firings)
    )
    held = stories.features[labels.held]
    inputs = MatchInputs(
        features, labels.contrast, held, labels.held_emotions, stories.decoder, directions, stories.encoder
    )
    scores = {score.name: np.asarray(score.compute(inputs), dtype=np.float32) for score in MATCH_SCORES}
    eligible = (
        (stories.density_elsewhere <= how.max_density)
        & ((firings != 0).sum(axis=0) >= how.min_stories)
        & (firings.sum(axis=0) >= how.min_firings)
        & (np.ptp(features, axis=0) > 0)
    )
    matched = [carriers(row, eligible, how.carriers(len(eligible))) for row in scores["attribution"]]
    source = generator(seed, "frequency-matched features", site)
    random = [
        frequency_matched(chosen, stories.density, np.flatnonzero(eligible), source) for chosen in matched
    ]
    return SiteMatch(
        scores=scores,
        residual_share=residual_share(labels.contrast, stream, features, stories.decoder),
        density=stories.density,
        eligible=eligible,
        maxima=null_maxima(features, labels.contrast, orders, eligible),
        direction_null=direction_null(
            stream, labels.contrast, stories.decoder, directions, eligible, orders, seed
        ),
        ablation=targeted_ablation(
            stories.stream[labels.held],
            held,
            labels.held_emotions,
            stories.decoder,
            directions,
            matched,
            random,
        ),
    )


def carriers(
    attribution: Float[np.ndarray, "feature"], eligible: Bool[np.ndarray, "feature"], most: int
) -> Int[np.ndarray, "_"]:
    """The `most` eligible features that write most of a direction, ascending; those that write against it
    never count.
    """
    share = np.where(eligible, attribution, -np.inf)
    best = np.argsort(-share, kind="stable")[:most]
    return np.sort(best[share[best] > 0])


def join_sites(found: Sequence[SiteMatch], how: MatchSettings) -> dict[str, Any]:
    """Scores, p, q and null of all sites together, by the names they have in `FeatureMatches`."""
    scores = {name: np.stack([one.scores[name] for one in found]) for name in MATCH_SCORES.names()}
    eligible = np.stack([one.eligible for one in found])
    maxima = np.max([one.maxima for one in found], axis=0)
    p = np.stack([family_wise_p(one.scores["standardised_delta"], maxima) for one in found])
    p[np.broadcast_to(~eligible[:, None, :], p.shape)] = 1.0
    tested = np.where(scores["delta"] > 0, p, 1.0)
    sites, emotions, features = np.nonzero(tested < 1)
    q = np.ones_like(p)
    q[sites, emotions, features] = q_values(tested[sites, emotions, features], emotions, p.min(axis=(0, 2)))
    finite = np.isfinite(maxima).all()
    cosine = np.stack([one.direction_null.maxima for one in found])
    null = {
        "p_value": p.astype(np.float32),
        "q_value": q.astype(np.float32),
        "level": np.asarray(LEVELS),
        "density": np.stack([one.density for one in found]),
        "eligible": eligible,
        # single precision: the last bits of a product depend on where its factors lie in memory, and files
        # shall not
        "max_quantile": (
            np.quantile(maxima, LEVELS, axis=0).T if finite else np.zeros((maxima.shape[1], len(LEVELS)))
        ).astype(np.float32),
        "cosine_max_quantile": np.moveaxis(
            np.quantile(np.where(np.isfinite(cosine), cosine, 0.0), LEVELS, axis=2), 0, 2
        ).astype(np.float32),
        "cosine_p_value": np.stack([one.direction_null.p_value for one in found]),
        "cosine_false_positives": np.stack([one.direction_null.false_positives for one in found]),
        "auroc_drop": np.stack([one.ablation.own for one in found]),
        "off_target_drop": np.stack([one.ablation.others for one in found]),
        "random_drop": np.stack([one.ablation.random for one in found]),
    }
    shares = np.stack([one.residual_share for one in found]).astype(np.float32)
    return {"scores": scores, "null": null, "residual_share": shares}
