"""How much of a site an SAE reconstructs, and with how many features. What the model loses by it is measured
in `emocircuits.experiments.sae_quality`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.sae.dictionary import Dictionary, open_dictionaries
from emocircuits.threads import side_by_side

BLOCK = 2048
Block = tuple[Int[np.ndarray, "row"], Float[np.ndarray, "row d_model"]]
DENSE = 0.1


@dataclass(frozen=True)
class Reconstruction:
    """Measured on `tokens` rows.

    Attributes:
        l0: mean number of active features (feature_acts other than zero).
        fvu: Σ‖x - x̂‖² / Σ‖x - x̄‖², x̄ the mean of all rows; both sums over the whole set, in float64.
        dead_fraction: share of features that fire on none of the rows.
        dense_fraction: share of features that fire on more than a tenth of them.
        tokens: number of rows.
        shrinkage: √(Σ‖x̂ - b_dec‖² / Σ‖x - b_dec‖²): below √(1 - fvu) means that activations are
            systematically too small.
    """

    l0: float
    fvu: float
    dead_fraction: float
    dense_fraction: float
    tokens: int
    shrinkage: float


@torch.no_grad()
def reconstruction(
    sae: Any, store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"]
) -> Reconstruction:
    """L0, FVU, dead and dense fractions of an SAE on rows of a store.

    Raises:
        UserError: no rows, or an SAE that does not fit the site.
    """
    if len(rows) == 0:
        raise UserError(f"no rows to measure the SAE at {site} on")
    dictionary = open_dictionaries({site: sae}, store.d_model)[site]
    origin = dictionary.decoder_bias.double().cpu()  # near the mean: shifting by it costs no precision later
    width = dictionary.d_sae

    @torch.no_grad()
    def sums(_: int, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Of a block: lost, shifted and kept squares; sum of the shifted rows; firings of each feature."""
        x = torch.from_numpy(block[1])
        acts = dictionary.active(x)
        decoded = dictionary.decode_active(acts).float().cpu()
        shifted = x.double() - origin
        parts = (x - decoded).double(), shifted, decoded.double() - origin
        squares = torch.stack([part.square().sum() for part in parts])
        return squares, shifted.sum(0), torch.bincount(acts.features, minlength=width).cpu()

    blocks = side_by_side(sums, store.blocks(site, rows, size=BLOCK), range(_workers(dictionary)))
    squares, total, fired = (sum(parts) for parts in zip(*blocks, strict=True))
    lost, square, kept = squares.tolist()
    count = len(rows)
    spread = square - float(total.square().sum()) / count
    if not spread > 0:
        raise UserError(f"the activations at {site} do not vary", cure="measure on more rows")
    density = fired.double() / count
    return Reconstruction(
        l0=float(fired.sum()) / count,
        fvu=lost / spread,
        dead_fraction=float((fired == 0).double().mean()),
        dense_fraction=float((density > DENSE).double().mean()),
        tokens=count,
        shrinkage=float(np.sqrt(kept / square)),
    )


@torch.no_grad()
def firing_rates(
    sae: Any, store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"]
) -> Float[np.ndarray, "d_sae"]:
    """Share of the rows on which each feature is active.

    Raises:
        UserError: no rows, or an SAE that does not fit the site.
    """
    if len(rows) == 0:
        raise UserError(f"no rows to count the features at {site} on")
    dictionary = open_dictionaries({site: sae}, store.d_model)[site]
    width = dictionary.d_sae

    def count(_: int, block: Block) -> Int[np.ndarray, "d_sae"]:
        features = dictionary.active(torch.from_numpy(block[1])).features.cpu().numpy()
        return np.bincount(features, minlength=width)

    fired = sum(side_by_side(count, store.blocks(site, rows, size=BLOCK), range(_workers(dictionary))))
    return fired / len(rows)


def _workers(dictionary: Dictionary) -> int:
    return torch.get_num_threads() if dictionary.decoder.device.type == "cpu" else 1


def encode_dense(sae: Any, x: Float[torch.Tensor, "*rows d_in"]) -> Float[torch.Tensor, "*rows d_sae"]:
    """Feature activations as a dense matrix, on the SAE's device."""
    acts = sae.encode(x.to(sae.W_dec.device))
    return acts.to_dense() if acts.is_sparse else acts
