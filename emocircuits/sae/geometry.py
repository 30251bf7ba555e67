"""What the weights of SAEs alone tell: how encoder and decoder agree, and how alike two dictionaries are,
next to chance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from emocircuits.errors import UserError
from emocircuits.numerics import generator

SAME = 0.7


@dataclass(frozen=True)
class SeedAgreement:
    """How alike two dictionaries of one size are, features paired one to one so that the sum of cosines is
    largest.

    Attributes:
        mean_cosine: mean cosine of paired decoder rows.
        same_fraction: share of pairs above 0.7 in decoder and encoder (Paulo & Belrose 2025).
        chance_cosine: mean cosine of two random dictionaries of that size, paired the same way.
        features: how many pairs.
    """

    mean_cosine: float
    same_fraction: float
    chance_cosine: float
    features: int


@torch.no_grad()
def decoder_encoder_cosine(sae: Any) -> float:
    """Mean cosine between what a feature reads, W_enc[:, i], and writes, W_dec[i]; zero rows are left out."""
    read, write = sae.W_enc.detach().double().t(), sae.W_dec.detach().double()
    norms = read.norm(dim=1) * write.norm(dim=1)
    alive = norms > 0
    return float(((read * write).sum(1)[alive] / norms[alive]).mean()) if bool(alive.any()) else 0.0


def seed_agreement(first: Any, second: Any, *, seed: int = 0) -> SeedAgreement:
    """Pairs the features of two SAEs (Hungarian assignment on decoder cosines; 4096 features take seconds).

    Raises:
        UserError: different sizes.
    """
    if first.W_dec.shape != second.W_dec.shape:
        raise UserError(
            f"dictionaries of shapes {tuple(first.W_dec.shape)} and "
            f"{tuple(second.W_dec.shape)} cannot be paired",
            expected="the same d_sae and d_in",
        )
    decoders = [_unit(sae.W_dec.detach().double().cpu().numpy()) for sae in (first, second)]
    encoders = [_unit(sae.W_enc.detach().double().cpu().numpy().T) for sae in (first, second)]
    left, right, cosines = _pair(*decoders)
    reading = (encoders[0][left] * encoders[1][right]).sum(1)
    rng = generator(seed, "random dictionaries")
    random = [_unit(rng.normal(size=decoders[0].shape)) for _ in range(2)]
    return SeedAgreement(
        mean_cosine=float(cosines.mean()),
        same_fraction=float(((cosines > SAME) & (reading > SAME)).mean()),
        chance_cosine=float(_pair(*random)[2].mean()),
        features=len(left),
    )


def _pair(
    first: Float[np.ndarray, "d_sae d_in"], second: Float[np.ndarray, "d_sae d_in"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cosines = first @ second.T
    left, right = linear_sum_assignment(cosines, maximize=True)
    return left, right, cosines[left, right]


def _unit(rows: Float[np.ndarray, "d_sae d_in"]) -> Float[np.ndarray, "d_sae d_in"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
