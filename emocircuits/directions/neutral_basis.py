"""The main components of neutral text as a basis, and how many of them directions are already free of."""

import numpy as np
from jaxtyping import Float

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.directions.settings import DirectionSettings
from emocircuits.directions.story_blocks import plan_stories, read_site

FREE = 1e-3  # largest cosine of a unit direction with a component that was projected out of it


def neutral_basis(
    store: ActivationStore, how: DirectionSettings, site: str, n: int
) -> Float[np.ndarray, "d_model component"]:
    """The `n` leading principal components of the tokens of neutral text at a site (position 0 left out), as
    columns.

    Args:
        store: activations with neutral text.
        how: which texts of the store are which, as when directions were learned.
        site: which site.
        n: how many.

    Raises:
        UserError: the store has no neutral text, or no site of that name.
    """
    plan = plan_stories(
        store,
        from_token=how.from_token,
        story_kinds=how.story_kinds,
        neutral_kinds=how.neutral_kinds,
        named=how.named,
        token_norm=how.token_norm,
    )
    moments = read_site(store, plan, site, lambda first, means: None)
    return np.linalg.eigh(moments.neutral_cov)[1][:, ::-1][:, :n]


def components_out(
    vectors: Float[np.ndarray, "emotion d_model"], basis: Float[np.ndarray, "d_model component"]
) -> int:
    """How many leading columns of a basis all unit directions are orthogonal to."""
    touched = np.abs(vectors.astype(np.float64) @ basis).max(axis=0) > FREE
    return int(np.argmax(touched)) if touched.any() else basis.shape[1]
