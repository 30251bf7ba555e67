"""Coherence under steering: perplexity of neutral text, so that a moved behaviour is not just a broken model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.experiments.steered import SteeringDirection, equal_length_groups
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.resume import logits_from, residual_at


@torch.no_grad()
def coherence(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    directions: Sequence[SteeringDirection],
    *,
    site: str,
    residual_norm: float,
    strengths: Sequence[float] = (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5),
    batch_tokens: int = 2048,
) -> pd.DataFrame:
    """Perplexity of texts (token ids with BOS) under steering at every position.

    Returns:
        `direction, kind, strength, nats_per_token, perplexity, n_tokens`; every token but the first is predicted.
    """
    pushes = np.stack([strength * residual_norm * direction.vector / np.linalg.norm(direction.vector)
                       for direction in directions for strength in strengths]).astype(np.float32)
    total, count = np.zeros(len(pushes)), 0
    for _, tokens in equal_length_groups(texts):
        size = max(1, batch_tokens // tokens.shape[1])
        for part in tokens.to(model.bridge.cfg.device).split(size):
            residual = residual_at(model.bridge, part, site)
            for row, push in enumerate(torch.from_numpy(pushes).to(residual)):
                total[row] += float(_nats(logits_from(model.bridge, part, site, residual + push, last_only=False), part).sum())
            count += part[:, 1:].numel()
    cells = [(direction.name, direction.kind, float(strength)) for direction in directions for strength in strengths]
    table = pd.DataFrame(cells, columns=["direction", "kind", "strength"])
    nats = total / max(1, count)
    return table.assign(nats_per_token=nats, perplexity=np.exp(nats), n_tokens=count)


def _nats(logits: Float[Tensor, "prompt pos d_vocab"], tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt later"]:
    predicted = logits[:, :-1].double().log_softmax(-1)
    return -predicted.gather(-1, tokens[:, 1:, None])[..., 0]
