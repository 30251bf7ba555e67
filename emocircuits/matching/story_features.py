"""Story means of SAE features and of the stream, in one pass over the stories' rows; memory holds one block of rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.interventions.dictionary import Dictionary, open_dictionaries

BLOCK = 8192


@dataclass(frozen=True, eq=False)
class StoryFeatures:
    """What one SAE sees in every story, from a first token on.

    Attributes:
        features: mean feature activations.
        stream: mean residual stream.
        firings: tokens of each story on which the feature fires.
        decoder: what one unit of each feature writes.
    """

    features: Float[np.ndarray, "story feature"]
    stream: Float[np.ndarray, "story d_model"]
    firings: Int[np.ndarray, "story feature"]
    decoder: Float[np.ndarray, "feature d_model"]


def story_features(
    store: ActivationStore, sae: Any, site: str, stories: Int[np.ndarray, "story"], *, from_token: int
) -> StoryFeatures:
    """Means over the tokens of each story from `from_token` on.

    Args:
        store: activations.
        sae: inference SAE of the site.
        site: hook name.
        stories: prompts of the store, ascending.
        from_token: first position that counts.

    Raises:
        UserError: a story without such a token, or an SAE that does not fit the site.
    """
    dictionary = open_dictionaries({site: sae}, store.d_model)[site]
    counts = store.prompts["n_tokens"].to_numpy()[stories] - from_token
    if (counts <= 0).any():
        poorest = store.prompts["id"].iloc[int(stories[int(counts.argmin())])]
        raise UserError(
            f"the story '{poorest}' has no token from position {from_token} on", cure="lower the first token that counts"
        )
    chosen = np.zeros(store.n_prompts, dtype=bool)
    chosen[stories] = True
    place = np.cumsum(chosen) - 1
    sums = np.zeros((len(stories), dictionary.d_sae))
    stream = np.zeros((len(stories), store.d_model))
    firings = np.zeros((len(stories), dictionary.d_sae), dtype=np.int32)
    for rows, block in store.blocks(site, store.select(chosen, start=from_token), size=BLOCK):
        acts = encode(dictionary, block)
        story = place[store.prompt_index[rows]]
        here, column = np.unique(story, return_inverse=True)
        member = (column == np.arange(len(here))[:, None]).astype(np.float32)  # a product with it sums over each story's rows
        sums[here] += member @ acts
        firings[here] += (member @ (acts != 0).astype(np.float32)).astype(np.int32)
        stream[here] += member.astype(np.float64) @ block.astype(np.float64)
    return StoryFeatures(
        (sums / counts[:, None]).astype(np.float32),
        (stream / counts[:, None]).astype(np.float32),
        firings,
        dictionary.decoder.cpu().numpy(),
    )


def densities(
    store: ActivationStore,
    sae: Any,
    site: str,
    groups: Int[np.ndarray, "prompt"],
    *,
    max_rows: int = 50_000,
    skip_positions: int = 1,
) -> tuple[Float[np.ndarray, "feature"], Float[np.ndarray, "feature"]]:
    """How often each feature fires, on evenly spaced rows of the whole store (sink left out).

    Args:
        store: activations.
        sae: inference SAE of the site.
        site: hook name.
        groups: a number for the prompts of each emotion, -1 for all others.
        max_rows: most rows.
        skip_positions: leading positions that are left out.

    Returns:
        The share of rows on which it fires, and the smallest such share when the prompts of any one emotion are left out:
        with few emotions, the feature of one of them is frequent in the store and still rare outside its own stories.
    """
    dictionary = open_dictionaries({site: sae}, store.d_model)[site]
    rows = store.select(np.ones(store.n_prompts, dtype=bool), start=skip_positions)
    rows = rows[:: max(1, -(-len(rows) // max_rows))]
    n_groups = int(groups.max(initial=-1)) + 2
    fired, count = np.zeros((n_groups, dictionary.d_sae)), np.zeros(n_groups)
    for index, block in store.blocks(site, rows, size=BLOCK):
        group = groups[store.prompt_index[index]]  # -1 is the last row
        member = np.eye(n_groups, dtype=np.float32)[group]
        fired += member.T @ (encode(dictionary, block) != 0).astype(np.float32)
        count += member.sum(axis=0)
    whole = fired.sum(axis=0) / max(1.0, count.sum())
    left = count.sum() - count[:-1]
    outside = (fired.sum(axis=0) - fired[:-1]) / np.maximum(left, 1.0)[:, None]
    return whole, np.minimum(whole, outside.min(axis=0, initial=1.0))


def encode(dictionary: Dictionary, block: Float[np.ndarray, "row d_model"]) -> Float[np.ndarray, "row feature"]:
    """Feature activations of some rows."""
    return dictionary.encode(torch.from_numpy(block).to(dictionary.decoder.device)).cpu().numpy()
