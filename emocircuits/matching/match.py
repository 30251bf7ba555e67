"""Scores every feature of every SAE against every emotion, tests them together, and keeps what passes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.artifacts.emotion_directions import EmotionDirections
from emocircuits.artifacts.feature_matches import FeatureMatches
from emocircuits.errors import UserError
from emocircuits.matching.contrast import Contrast
from emocircuits.matching.delta import residual_share
from emocircuits.matching.permutation import family_wise_p, null_maxima, permutations, q_values
from emocircuits.matching.score import SCORES, MatchInputs
from emocircuits.matching.story_features import densities, story_features
from emocircuits.progress import track
from emocircuits.provenance import Provenance

LEVELS = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class MatchSettings:
    """How features are matched. Stories, splits and the first token that counts are those of the directions.

    Attributes:
        permutations: label permutations behind the p-values.
        q_value: largest q of a match.
        max_density: features that fire on more than this share of tokens, whichever one emotion's stories are left out, are
            generic and take no part.
        min_stories: features that fire in fewer stories take no part.
        min_firings: features that fire on fewer tokens of the stories take no part.
        per_emotion: most rows of the table per emotion and site.
        seed: seed of the permutations.
    """

    permutations: int = 200
    q_value: float = 0.05
    max_density: float = 0.1
    min_stories: int = 5
    min_firings: int = 20
    per_emotion: int = 5
    seed: int = 0


def match_features(
    store: ActivationStore, saes: Mapping[str, Any], directions: EmotionDirections, settings: MatchSettings | None = None
) -> FeatureMatches:
    """Matches SAE features with emotions.

    The statistic is the standardised Δf of the stories the directions were made from. Its p is family-wise over all
    eligible features of all sites (permuted stories, largest z); q is Benjamini–Hochberg across emotions. A match has
    Δf > 0 and q <= `q_value`. AUROC is measured on held-out stories (on the same ones where there are none held out).
    Matches of an emotion and site are listed by how much of the direction they write (attribution).

    Args:
        store: activations of labelled stories.
        saes: site -> inference SAE.
        directions: emotion directions of the same model; `saes` has one SAE for each of their sites.
        settings: how.

    Raises:
        UserError: another model's directions, a site without an SAE, SAEs of different size, or an emotion without stories.
    """
    how = settings or MatchSettings()
    _check(store, saes, directions)
    first = int(directions.settings.get("from_token", 1))
    fit, fit_labels = _stories(store, directions, "fit_split", "train", first)
    held, held_labels = _stories(store, directions, "held_out_split", "held_out", first)
    contrast = Contrast(fit_labels, len(directions.emotions))
    if (contrast.counts == 0).any():
        raise UserError(
            f"no story shows the emotion '{directions.emotions[int(contrast.counts.argmin())]}'",
            cure="collect stories of it or learn the directions again",
        )
    groups = _labels(store, directions)
    every = np.union1d(fit, held)
    rows, held_rows = np.searchsorted(every, fit), np.searchsorted(every, held)
    orders = permutations(len(fit), how.permutations, how.seed)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in SCORES.names()}
    shares, density, eligible, maxima = (
        [],
        [],
        [],
        np.full((how.permutations, contrast.n_emotions), -np.inf, dtype=np.float32),
    )
    for site in track(directions.sites, "match", total=len(directions.sites)):
        both = story_features(store, saes[site], site, every, from_token=first)
        features, stream = both.features[rows], both.stream[rows]
        inputs = MatchInputs(
            features,
            contrast,
            both.features[held_rows] if len(held) else features,
            held_labels if len(held) else fit_labels,
            both.decoder,
            directions.vectors[directions.site_index(site)],
        )
        for name, score in SCORES:
            scores[name].append(np.asarray(score(inputs), dtype=np.float32))
        shares.append(residual_share(contrast, stream, features, both.decoder))
        overall, outside = densities(store, saes[site], site, groups)
        density.append(overall)
        firings = both.firings[rows]
        eligible.append(
            (outside <= how.max_density) & ((firings > 0).sum(0) >= how.min_stories) & (firings.sum(0) >= how.min_firings)
        )
        maxima = np.maximum(maxima, null_maxima(features, contrast, orders, eligible[-1]))
    stacked = {name: np.stack(values) for name, values in scores.items()}
    usable = np.stack(eligible)
    p = np.stack([family_wise_p(z, maxima) for z in stacked["standardised_delta"]])
    p[np.broadcast_to(~usable[:, None, :], p.shape)] = 1.0
    null = {
        "p_value": p.astype(np.float32),
        "level": np.asarray(LEVELS),
        "density": np.stack(density),
        "eligible": usable,
        "max_quantile": np.quantile(maxima, LEVELS, axis=0).T
        if np.isfinite(maxima).all()
        else np.zeros((len(p[0]), len(LEVELS))),
    }
    return FeatureMatches(
        emotions=directions.emotions,
        sites=directions.sites,
        scores=stacked,
        null=null,
        table=_table(directions, stacked, p, usable, null["density"], how),
        residual_share=np.stack(shares).astype(np.float32),
        model_hash=directions.model_hash,
        provenance=Provenance(
            command="match",
            seed=how.seed,
            settings=asdict(how),
            inputs={"activations": store.content_hash, "directions": directions.content_hash},
        ),
    )


def _table(
    directions: EmotionDirections,
    scores: dict[str, Float[np.ndarray, "site emotion feature"]],
    p: Float[np.ndarray, "site emotion feature"],
    usable: Bool[np.ndarray, "site feature"],
    density: Float[np.ndarray, "site feature"],
    how: MatchSettings,
) -> pd.DataFrame:
    share = scores["attribution"]
    best = p.min(axis=(0, 2))
    rows = []
    for emotion, name in enumerate(directions.emotions):
        sites, features = np.nonzero(usable & (scores["delta"][:, emotion] > 0))
        ps = p[sites, emotion, features]
        q = q_values(ps, np.full(len(ps), emotion), best)
        kept = q <= how.q_value
        z = scores["standardised_delta"][sites, emotion, features]
        rank = np.where(kept, share[sites, emotion, features], z)
        for site, label in enumerate(directions.sites):
            here = np.flatnonzero(sites == site)
            for place in here[np.lexsort((-rank[here], ~kept[here]))][: how.per_emotion]:
                feature = int(features[place])
                rows.append(
                    {
                        "emotion": name,
                        "site": label,
                        "feature": feature,
                        **{
                            column: float(scores[column][site, emotion, feature])
                            for column in ("delta", "cosine", "auroc", "attribution", "standardised_delta")
                        },
                        "density": float(density[site, feature]),
                        "p_value": float(ps[place]),
                        "q_value": float(q[place]),
                        "kept": bool(kept[place]),
                    }
                )
    columns = [
        "emotion",
        "site",
        "feature",
        "delta",
        "cosine",
        "auroc",
        "attribution",
        "standardised_delta",
        "density",
        "p_value",
        "q_value",
        "kept",
    ]
    return pd.DataFrame(rows, columns=columns)


def _check(store: ActivationStore, saes: Mapping[str, Any], directions: EmotionDirections) -> None:
    owner = store.metadata.get("model_hash")
    if owner and directions.model_hash and owner != directions.model_hash:
        raise UserError(
            "the directions belong to another model than the activations", cure="learn them again: --from directions"
        )
    missing = [site for site in directions.sites if site not in saes]
    if missing:
        raise UserError(f"no SAE for {', '.join(missing)}", cure="train it: --from sae")
    sizes = {saes[site].cfg.d_sae for site in directions.sites}
    if len(sizes) > 1:
        raise UserError(f"SAEs of different size ({', '.join(map(str, sorted(sizes)))})", expected="one d_sae at all sites")


def _stories(
    store: ActivationStore, directions: EmotionDirections, key: str, default: str, first: int
) -> tuple[Int[np.ndarray, "story"], Int[np.ndarray, "story"]]:
    """Prompts of one split that the directions are about, ascending, and their emotion."""
    prompts, settings = store.prompts, directions.settings
    labels = _labels(store, directions)
    chosen = (labels >= 0) & (prompts["n_tokens"].to_numpy() > first)
    if "split" in prompts:
        chosen &= (prompts["split"] == settings.get(key, default)).to_numpy(dtype=bool)
    if "kind" in prompts:
        chosen &= prompts["kind"].isin(list(settings.get("story_kinds", ("story",)))).to_numpy(dtype=bool)
    if settings.get("named", False) is not None and "named" in prompts:
        chosen &= prompts["named"].to_numpy(dtype=bool) == bool(settings.get("named", False))
    index = np.flatnonzero(chosen)
    return index, labels[index]


def _labels(store: ActivationStore, directions: EmotionDirections) -> Int[np.ndarray, "prompt"]:
    """Emotion of every prompt as its place among the directions' emotions, -1 for any other."""
    codes = {emotion: code for code, emotion in enumerate(directions.emotions)}
    return np.array([codes.get(str(emotion), -1) for emotion in store.prompts["emotion"]], dtype=np.int64)
