"""Story means of SAE features and of the stream, and how often features fire: one pass over the rows of a
site.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.matching.active import active
from emocircuits.sae.dictionary import open_dictionaries

BLOCK = 4096
DENSITY_ROWS = 50_000


@dataclass(frozen=True, eq=False)
class StoryFeatures:
    """What one SAE sees in every story, from a first token on.

    Attributes:
        features: mean feature activations.
        stream: mean residual stream.
        firings: tokens of each story on which the feature fires.
        decoder: what one unit of each feature writes.
        encoder: what each feature reads.
        density: share of evenly spaced rows of the whole store (sink left out) on which the feature fires.
        density_elsewhere: the smallest such share when the prompts of any one emotion are left out: with few
            emotions, the feature of one of them is frequent in the store and still rare outside its own
            stories.
    """

    features: Float[np.ndarray, "story feature"]
    stream: Float[np.ndarray, "story d_model"]
    firings: Int[np.ndarray, "story feature"]
    decoder: Float[np.ndarray, "feature d_model"]
    encoder: Float[np.ndarray, "d_model feature"]
    density: Float[np.ndarray, "feature"]
    density_elsewhere: Float[np.ndarray, "feature"]


def story_features(
    store: ActivationStore,
    sae: Any,
    site: str,
    stories: Int[np.ndarray, "story"],
    *,
    from_token: int,
    groups: Int[np.ndarray, "prompt"] | None = None,
) -> StoryFeatures:
    """Means over the tokens of each story from `from_token` on.

    Args:
        store: activations.
        sae: inference SAE of the site.
        site: hook name.
        stories: prompts of the store, ascending.
        from_token: first position that counts.
        groups: a number for the prompts of each emotion, -1 for all others (for `density_elsewhere`).

    Raises:
        UserError: a story without such a token, an SAE that does not fit the site, or activations that are
            not finite.
    """
    dictionary = open_dictionaries({site: sae}, store.d_model)[site]
    counts = store.prompts["n_tokens"].to_numpy()[stories] - from_token
    if (counts <= 0).any():
        poorest = store.prompts["id"].iloc[int(stories[int(counts.argmin())])]
        raise UserError(
            f"the story '{poorest}' has no token from position {from_token} on",
            cure="lower the first token that counts",
        )
    groups = np.full(store.n_prompts, -1) if groups is None else groups
    chosen = np.zeros(store.n_prompts, dtype=bool)
    first_of, back = np.unique(_first_alike(store, site, stories), return_inverse=True)
    chosen[stories[first_of]] = True
    place = np.cumsum(chosen) - 1
    thinned = store.select(np.ones(store.n_prompts, dtype=bool), start=1)
    thinned = thinned[:: max(1, -(-len(thinned) // DENSITY_ROWS))]
    sampled = np.zeros(store.n_rows, dtype=bool)
    sampled[thinned] = True
    counting = chosen[store.prompt_index] & (store.positions >= from_token)
    rows = np.flatnonzero(counting | sampled)
    d_sae = dictionary.d_sae
    sums = np.zeros((len(first_of), d_sae), dtype=np.float32)
    firings = np.zeros((len(first_of), d_sae), dtype=np.int32)
    stream = np.zeros((len(first_of), store.d_model))
    n_groups = int(groups.max(initial=-1)) + 2  # the last one is -1: prompts of no emotion
    fired, seen = np.zeros((n_groups, d_sae)), np.zeros(n_groups)
    for numbers, block in store.blocks(site, rows, size=BLOCK):
        entries = active(dictionary, block)
        prompt = store.prompt_index[numbers]
        counted = counting[numbers]
        if counted.any():
            first, last = (int(place[prompt[counted][end]]) for end in (0, -1))  # stories come in order
            inside = slice(None) if counted.all() else counted[entries.rows]
            story = (place[prompt] - first)[entries.rows[inside]]
            key, size = story * d_sae + entries.features[inside], (last - first + 1) * d_sae
            here = slice(first, last + 1)
            sums[here] += np.bincount(key, entries.values[inside], size).reshape(-1, d_sae).astype(np.float32)
            firings[here] += np.bincount(key, minlength=size).reshape(-1, d_sae).astype(np.int32)
            member = place[prompt[counted]] - first == np.arange(last - first + 1)[:, None]
            stream[here] += member.astype(np.float64) @ block[counted].astype(np.float64)
        thin = sampled[numbers]
        group = groups[prompt] % n_groups
        inside = thin[entries.rows]
        key = group[entries.rows[inside]] * d_sae + entries.features[inside]
        fired += np.bincount(key, minlength=n_groups * d_sae).reshape(n_groups, d_sae)
        seen += np.bincount(group[thin], minlength=n_groups)
    whole = fired.sum(axis=0) / max(1.0, seen.sum())
    outside = (fired.sum(axis=0) - fired[:-1]) / np.maximum(seen.sum() - seen[:-1], 1.0)[:, None]
    found = StoryFeatures(
        features=(sums / counts[first_of, None]).astype(np.float32)[back],
        stream=(stream / counts[first_of, None]).astype(np.float32)[back],
        firings=firings[back],
        decoder=dictionary.decoder.cpu().numpy(),
        encoder=dictionary.encoder.cpu().numpy(),
        density=whole,
        density_elsewhere=np.minimum(whole, outside.min(axis=0, initial=1.0)),
    )
    _check_finite(found, site, store)
    return found


def _first_alike(
    store: ActivationStore, site: str, stories: Int[np.ndarray, "story"]
) -> Int[np.ndarray, "story"]:
    """For each story the place of the first one with the same rows: the same text may be told of several
    emotions.
    """
    first_row, n_rows = (store.prompts[name].to_numpy()[stories] for name in ("offset", "n_tokens"))
    seen: dict[bytes, int] = {}
    found = np.empty(len(stories), dtype=np.int64)
    for place, (start, count) in enumerate(zip(first_row.tolist(), n_rows.tolist(), strict=True)):
        rows = np.ascontiguousarray(store.read_raw(site, slice(start, start + count)))
        found[place] = seen.setdefault(blake2b(rows.data, digest_size=16).digest(), place)
    store.unmap()
    return found


def _check_finite(found: StoryFeatures, site: str, store: ActivationStore) -> None:
    for what, values in (("feature", found.features), ("coordinate", found.stream)):
        wrong = ~np.isfinite(values)
        if wrong.any():
            column = int(np.flatnonzero(wrong.any(axis=0))[0])
            raise UserError(
                f"{what} {column} at {site} is NaN or infinite in {int(wrong[:, column].sum())} stories "
                f"({int(wrong.any(axis=0).sum())} such {what}s)",
                cure=f"check {store.path.name} (emocircuits store verify) and the SAE of the site",
            )
