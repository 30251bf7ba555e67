"""From matches to what is held, pushed and taken out: an emotion's features, and those that stand against
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.experiments.causal_check import SiteCheck
from emocircuits.experiments.mediation import HeldSet
from emocircuits.matching.frequency_matched import frequency_matched
from emocircuits.numerics import generator


def held_sets(
    matches: FeatureMatches,
    emotion: str,
    sites: Sequence[str],
    *,
    share: float = 0.02,
    n_random: int = 10,
    seed: int = 0,
) -> list[HeldSet]:
    """Sets for `mediation`, each with at most `share` of every dictionary.

    `matched`: the carriers of the emotion's direction; `significant`: the features with Δf > 0 whose q
    passed; `cosine`: as many as the carriers, by decoder cosine; `all`: every feature; `random 0` … :
    features of the carriers' firing rates.
    """
    carriers = {site: matches.carriers(emotion, site, share) for site in sites}
    significant = {site: significant_features(matches, emotion, site) for site in sites}
    by_cosine = {}
    for site in sites:
        usable = _usable(matches, site)
        cosine = np.where(usable, matches.score("cosine", emotion, site), -np.inf)
        by_cosine[site] = np.sort(
            np.argsort(-cosine, kind="stable")[: min(len(carriers[site]), int(usable.sum()))]
        )
    everything = {site: np.arange(len(matches.score("delta", emotion, site))) for site in sites}
    sets = [
        HeldSet("matched", "matched", carriers),
        HeldSet("significant", "significant", significant),
        HeldSet("cosine", "cosine", by_cosine),
        HeldSet("all", "all", everything),
    ]
    for number in range(n_random):
        chosen = {
            site: _stand_ins(matches, site, carriers[site], generator(seed, "held features", site, number))
            for site in sites
        }
        sets.append(HeldSet(f"random {number}", "random", chosen))
    return sets


@dataclass(frozen=True)
class ControlSettings:
    """How many features stand against an emotion's own.

    Attributes:
        share: carriers, as a share of the dictionary.
        n_random: random features per site, matched in turn to the kept ones.
        n_sets: random sets and random directions per site.
        seed: seed of the random features.
    """

    share: float = 0.02
    n_random: int = 30
    n_sets: int = 10
    seed: int = 0


def site_checks(
    matches: FeatureMatches,
    directions: EmotionDirections,
    emotion: str,
    *,
    sites: Sequence[str] | None = None,
    settings: ControlSettings | None = None,
) -> list[SiteCheck]:
    """What `causal_check` measures at every site where the emotion has a kept match.

    Args:
        matches, directions: of one run.
        emotion: whose.
        sites: only these.
        settings: how many random features and sets.
    """
    settings = settings or ControlSettings()
    checks = []
    for site in sites or matches.sites:
        kept = np.sort(matches.kept(emotion, site)["feature"].to_numpy(dtype=np.int64))
        if not len(kept):
            continue
        row = directions.site_index(site)
        carriers = matches.carriers(emotion, site, settings.share)
        source = generator(settings.seed, "checked features", site)
        turns = np.tile(kept, -(-settings.n_random // len(kept)))[: settings.n_random]
        random = _stand_ins(matches, site, turns, source, apart=np.union1d(kept, carriers))
        sets = [_stand_ins(matches, site, carriers, source, ordered=True) for _ in range(settings.n_sets)]
        control = directions.controls.get("random")
        checks.append(
            SiteCheck(
                direction=directions.direction(emotion, site),
                kept=kept,
                random=random,
                carriers=carriers,
                carrier_weights=matches.score("delta", emotion, site)[carriers].astype(np.float64),
                random_sets=np.array(
                    [chosen for chosen in sets if len(chosen) == len(carriers)], dtype=np.int64
                ).reshape(-1, len(carriers)),
                random_vectors=np.zeros((0, directions.vectors.shape[2]), np.float32)
                if control is None
                else control.vectors[row][: settings.n_sets],
                mean=directions.mean[row],
            )
        )
    return checks


def significant_features(matches: FeatureMatches, emotion: str, site: str) -> Int[np.ndarray, "_"]:
    """Every feature of a site with Δf > 0 whose q passed, whether or not the table lists it."""
    level = float(matches.provenance.settings.get("q_value", 0.05))
    q = matches.null["q_value"][matches.sites.index(site), matches.emotions.index(emotion)]
    return np.flatnonzero(_usable(matches, site) & (matches.score("delta", emotion, site) > 0) & (q <= level))


def _usable(matches: FeatureMatches, site: str) -> np.ndarray:
    return matches.null["eligible"][matches.sites.index(site)].astype(bool)


def _stand_ins(
    matches: FeatureMatches,
    site: str,
    chosen: Int[np.ndarray, "_"],
    source: np.random.Generator,
    *,
    apart: Int[np.ndarray, "_"] | None = None,
    ordered: bool = False,
) -> Int[np.ndarray, "_"]:
    """Eligible features of the firing rates of the chosen ones, none of those that are to stay apart."""
    density = matches.null["density"][matches.sites.index(site)].astype(np.float64)
    pool = np.setdiff1d(np.flatnonzero(_usable(matches, site)), chosen if apart is None else apart)
    return frequency_matched(chosen, density, pool, source, ordered=ordered)
