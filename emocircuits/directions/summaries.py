"""What every direction is made of, from one pass over an activation store: story means, neutral spread, residual norms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import sparse

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.progress import track

BLOCK_ROWS = 1 << 15


@dataclass(frozen=True, eq=False)
class StoreSummary:
    """The sufficient statistics of a store for direction estimators.

    Attributes:
        stories: one row per story used (labels as in the store).
        story_means: mean residual of each story from token `from_token` on.
        neutral_mean, neutral_cov: mean and covariance over tokens of neutral texts, sink masked; float64.
        residual_norm: mean norm over all tokens of the store, sink (position 0) masked.
        sites: sites, in the order of the first (second for story means) axis.
        from_token: first token of a story that counts (position 0 is BOS or the first token).
    """

    stories: pd.DataFrame
    story_means: Float[np.ndarray, "story site d_model"]
    neutral_mean: Float[np.ndarray, "site d_model"]
    neutral_cov: Float[np.ndarray, "site d_model d_model"]
    residual_norm: Float[np.ndarray, "site"]
    sites: tuple[str, ...]
    from_token: int

    def of_split(self, split: str) -> Bool[np.ndarray, "story"]:
        """Which stories belong to a split."""
        return self.stories["split"].to_numpy() == split


def summarise(
    store: ActivationStore,
    *,
    from_token: int,
    story_kinds: Sequence[str] = ("story",),
    neutral_kinds: Sequence[str] = ("neutral",),
    named: bool | None = False,
    sites: Sequence[str] | None = None,
) -> StoreSummary:
    """Reads the store once per site.

    Args:
        store: activations with labels.
        from_token: first position of a story that counts, at least 1 (position 0 is the sink).
        story_kinds: kinds of text the stories are.
        neutral_kinds: kinds of text without emotion.
        named: only stories that name their emotion (True), that do not (False), or both (None).
        sites: which sites; all by default.

    Raises:
        UserError: no story or no neutral text is left.
    """
    if from_token < 1:
        raise UserError(f"from_token is {from_token}", expected="at least 1: position 0 is the attention sink")
    prompts = store.prompts
    counts = prompts["n_tokens"].to_numpy() - from_token
    is_story = prompts["kind"].isin(list(story_kinds)).to_numpy() & (prompts["emotion"].to_numpy() != "")
    if named is not None:
        is_story &= prompts["named"].to_numpy(dtype=bool) == named
    longest = int(prompts["n_tokens"].to_numpy()[is_story].max()) if is_story.any() else 0
    is_story &= counts > 0
    is_neutral = prompts["kind"].isin(list(neutral_kinds)).to_numpy()
    if not is_story.any():
        raise UserError(f"no story of kind {', '.join(story_kinds)} has more than {from_token} tokens (the longest has {longest})",
                        cure="lower the first token that counts, or collect longer stories")
    if not is_neutral.any():
        raise UserError(f"the activation store has no neutral text (kind {', '.join(neutral_kinds)})",
                        cure="collect neutral texts: their main components are projected out of the directions")
    chosen = np.flatnonzero(is_story)
    sites = tuple(store.sites if sites is None else sites)
    width = store.d_model
    means = np.zeros((len(chosen), len(sites), width), dtype=np.float32)
    mean, cov = np.zeros((len(sites), width)), np.zeros((len(sites), width, width))
    norms = np.zeros(len(sites))
    place = np.full(len(prompts), -1)
    place[chosen] = np.arange(len(chosen))
    neutral_rows = is_neutral[store.prompt_index] & (store.positions > 0)
    counted = store.positions > 0
    for number, site in enumerate(track(sites, "summarise", total=len(sites))):
        for start in range(0, store.n_rows, BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, store.n_rows))
            x = store.read(site, rows)
            story = place[store.prompt_index[rows]]
            use = np.flatnonzero((story >= 0) & (store.positions[rows] >= from_token))
            if len(use):
                first, last = int(story[use].min()), int(story[use].max()) + 1
                weights = 1.0 / counts[chosen[story[use]]]
                gather = sparse.csr_matrix((weights.astype(np.float32), (story[use] - first, use)), shape=(last - first, len(x)))
                means[first:last, number] += gather @ x
            flat = x[neutral_rows[rows]].astype(np.float64)
            mean[number] += flat.sum(axis=0)
            cov[number] += flat.T @ flat
            norms[number] += np.linalg.norm(x, axis=1)[counted[rows]].sum(dtype=np.float64)
    n_neutral = max(1, int(neutral_rows.sum()))
    mean /= n_neutral
    cov = cov / n_neutral - mean[:, :, None] * mean[:, None, :]
    return StoreSummary(
        stories=prompts.iloc[chosen].reset_index(drop=True), story_means=means, neutral_mean=mean, neutral_cov=cov,
        residual_norm=(norms / max(1, int(counted.sum()))), sites=sites, from_token=from_token,
    )
