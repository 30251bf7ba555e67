"""What a dictionary must beat to mean anything: principal components of the same L0."""

import numpy as np
from jaxtyping import Int

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.errors import UserError


def pca_fvu(
    store: ActivationStore,
    site: str,
    fit_rows: Int[np.ndarray, "fit"] | RowSelection,
    rows: Int[np.ndarray, "chosen"],
    components: int,
) -> float:
    """FVU on `rows` of the first principal components of `fit_rows`, as many as an SAE has active features.

    Σ‖x - x̂‖² / Σ‖x - x̄‖² with x̂ = m + P (x - m), m and P from `fit_rows`, x̄ the mean of `rows`; float64.

    Raises:
        UserError: no rows, or rows that do not vary.
    """
    if not len(fit_rows) or not len(rows):
        raise UserError(f"no rows at {site} for principal components")
    count, mean, second = _moments(store, site, fit_rows)
    values, vectors = np.linalg.eigh(second / count - np.outer(mean, mean))
    basis = vectors[:, np.argsort(values)[::-1][:components]]
    lost, square, total = 0.0, 0.0, np.zeros(store.d_model)
    for _, block in store.blocks(site, rows):
        centred = block.astype(np.float64) - mean
        lost += float((centred**2).sum() - ((centred @ basis) ** 2).sum())
        square, total = square + float((centred**2).sum()), total + centred.sum(0)
    spread = square - float(total @ total) / len(rows)
    if not spread > 0:
        raise UserError(f"the activations at {site} do not vary", cure="measure on more rows")
    return lost / spread


def _moments(
    store: ActivationStore, site: str, rows: np.ndarray | RowSelection
) -> tuple[int, np.ndarray, np.ndarray]:
    total, second = np.zeros(store.d_model), np.zeros((store.d_model, store.d_model))
    for _, block in store.blocks(site, rows):
        wide = block.astype(np.float64)
        total, second = total + wide.sum(0), second + wide.T @ wide
    return len(rows), total / len(rows), second
