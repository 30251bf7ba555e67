"""The story means of an activation store in memory: for analyses that look at single stories again and again.

Learning directions does not need it (`directions.statistics` streams); it holds stories × sites × d_model
numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.directions.story_blocks import plan_stories, read_site
from emocircuits.progress import track


@dataclass(frozen=True, eq=False)
class StoreSummary:
    """Stories, neutral spread and norms of a store.

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
    plan = plan_stories(
        store, from_token=from_token, story_kinds=story_kinds, neutral_kinds=neutral_kinds, named=named
    )
    sites = tuple(store.sites if sites is None else sites)
    means = np.zeros((len(plan.stories), len(sites), store.d_model), dtype=np.float32)
    moments = []
    for number, site in enumerate(track(sites, "summarise", total=len(sites))):

        def take(first: int, block: Float[np.ndarray, "block d_model"], number: int = number) -> None:
            means[first : first + len(block), number] = block

        moments.append(read_site(store, plan, site, take))
    return StoreSummary(
        stories=plan.stories,
        story_means=means,
        neutral_mean=np.stack([moment.neutral_mean for moment in moments]),
        neutral_cov=np.stack([moment.neutral_cov for moment in moments]),
        residual_norm=np.array([moment.residual_norm for moment in moments]),
        sites=sites,
        from_token=from_token,
    )
