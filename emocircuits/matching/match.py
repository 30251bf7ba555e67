"""Scores every feature of every SAE against every emotion, tests them together, and keeps what passes."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError, unknown
from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.match_stories import Labels, SiteMatch, join_sites, match_site
from emocircuits.matching.permutation import permutations
from emocircuits.matching.settings import MatchSettings
from emocircuits.matching.story_features import story_features
from emocircuits.matching.table import match_table
from emocircuits.progress import bar
from emocircuits.provenance import Provenance
from emocircuits.threads import side_by_side


def match_features(
    store: ActivationStore,
    saes: Mapping[str, Any],
    directions: EmotionDirections,
    settings: MatchSettings | None = None,
    *,
    seed: int = 0,
    sites: tuple[str, ...] | None = None,
    workers: int = 1,
) -> FeatureMatches:
    """Matches SAE features with emotions.

    The statistic is the standardised Δf of the stories the directions were made from. Its p is family-wise
    over all eligible features of all sites (permuted stories, largest z); q is Benjamini–Hochberg across
    emotions. A match has Δf > 0 and q <= `q_value`. AUROC is measured on held-out stories (on the same ones
    where there are none held out). Matches of an emotion and site are listed by how much of the direction
    they write (attribution).

    Args:
        store: activations of labelled stories.
        saes: site -> inference SAE.
        directions: emotion directions of the same model.
        settings: how.
        seed: seed of permutations and of random directions and features.
        sites: which sites of the directions; all by default. `saes` has one SAE for each of them.
        workers: sites worked on at the same time, one thread each; the result does not depend on it.

    Raises:
        UserError: another model's directions, a site without SAE or activations, SAEs of different size, an
            emotion without stories, or activations that are not finite.
    """
    how = settings or MatchSettings()
    chosen = directions.sites if sites is None else tuple(sites)
    _check(store, saes, directions, chosen)
    first = int(directions.setting("from_token"))
    stories, labels = labelled_stories(store, directions)
    groups = _labels(store, directions)
    orders = permutations(len(labels.fit), how.permutations, seed)

    def work(site: str) -> SiteMatch:
        seen = story_features(store, saes[site], site, stories, from_token=first, groups=groups)
        return match_site(
            site, seen, labels, directions.vectors[directions.site_index(site)], orders, how, seed
        )

    found = []
    with bar(len(chosen), "match") as shown:
        for result in side_by_side(lambda _, site: work(site), chosen, range(workers)):
            found.append(result)
            shown.update(1)
    joined = join_sites(found, how)
    return FeatureMatches(
        emotions=directions.emotions,
        sites=chosen,
        **joined,
        table=match_table(directions.emotions, chosen, joined, how),
        model_hash=directions.model_hash,
        provenance=Provenance(
            command="match",
            seed=seed,
            settings=asdict(how),
            inputs={"activations": store.content_hash, "directions": directions.content_hash},
        ),
    )


def labelled_stories(
    store: ActivationStore, directions: EmotionDirections
) -> tuple[Int[np.ndarray, "story"], Labels]:
    """The prompts that the directions are about, ascending, and their labels as rows of this list.

    Raises:
        UserError: an emotion without a story.
    """
    first = int(directions.setting("from_token"))
    fit, emotions = _stories(store, directions, "fit_split", first)
    held, held_emotions = _stories(store, directions, "held_out_split", first)
    contrast = StoryContrast(emotions, len(directions.emotions))
    if (contrast.counts == 0).any():
        raise UserError(
            f"no story shows the emotion '{directions.emotions[int(contrast.counts.argmin())]}'",
            cure="collect stories of it or learn the directions again",
        )
    if not len(held):
        held, held_emotions = fit, emotions
    every = np.union1d(fit, held)
    return every, Labels(np.searchsorted(every, fit), contrast, np.searchsorted(every, held), held_emotions)


def _check(
    store: ActivationStore, saes: Mapping[str, Any], directions: EmotionDirections, sites: tuple[str, ...]
) -> None:
    owner = store.metadata.get("model_hash")
    if owner and directions.model_hash and owner != directions.model_hash:
        raise UserError(
            "the directions belong to another model than the activations",
            cure="learn them again: --from directions",
        )
    if not sites:
        raise UserError("no site to match at", expected=f"some of {', '.join(directions.sites)}")
    for site in sites:
        directions.site_index(site)
        if site not in store.sites:
            raise unknown("site of the activations", site, store.sites)
    missing = [site for site in sites if site not in saes]
    if missing:
        raise UserError(f"no SAE for {', '.join(missing)}", cure="train it: --from sae")
    sizes = {saes[site].cfg.d_sae for site in sites}
    if len(sizes) > 1:
        raise UserError(
            f"SAEs of different size ({', '.join(map(str, sorted(sizes)))})",
            expected="one d_sae at all sites",
        )


def _stories(
    store: ActivationStore, directions: EmotionDirections, key: str, first: int
) -> tuple[Int[np.ndarray, "story"], Int[np.ndarray, "story"]]:
    """Prompts of one split that the directions are about, ascending, and their emotion."""
    prompts, named = store.prompts, directions.setting("named")
    labels = _labels(store, directions)
    chosen = (labels >= 0) & (prompts["n_tokens"].to_numpy() > first)
    if "split" in prompts:
        chosen &= (prompts["split"] == directions.setting(key)).to_numpy(dtype=bool)
    if "kind" in prompts:
        chosen &= prompts["kind"].isin(list(directions.setting("story_kinds"))).to_numpy(dtype=bool)
    if named is not None and "named" in prompts:
        chosen &= prompts["named"].to_numpy(dtype=bool) == bool(named)
    index = np.flatnonzero(chosen)
    return index, labels[index]


def _labels(store: ActivationStore, directions: EmotionDirections) -> Int[np.ndarray, "prompt"]:
    """Emotion of every prompt as its place among the directions' emotions, -1 for any other."""
    codes = {emotion: code for code, emotion in enumerate(directions.emotions)}
    return np.array([codes.get(str(emotion), -1) for emotion in store.prompts["emotion"]], dtype=np.int64)
