"""Coherence under steering: is a moved behaviour just a broken model?

Perplexity of neutral text, and how much the model repeats itself when it goes on from the beginnings of such
texts.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.experiments.resumed import equal_length_groups
from emocircuits.experiments.steered import SteeringDirection
from emocircuits.interventions.generate import sample
from emocircuits.interventions.steer import push
from emocircuits.models.language_model import LanguageModel
from emocircuits.passes.resume import resume, stream_at

REPEATED = 3  # tokens that make a repetition


@torch.no_grad()
def coherence(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    directions: Sequence[SteeringDirection],
    *,
    site: str,
    residual_norm: float,
    strengths: Sequence[float] = (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5),
    beginning: int = 16,
    new_tokens: int = 0,
    generate_from: int = 8,
    seed: int = 0,
    batch_tokens: int = 2048,
) -> pd.DataFrame:
    """Perplexity of texts (token ids with BOS) under steering at every position, and repetition of what the
    model writes.

    Args:
        model: the model.
        texts: neutral texts.
        directions: what is pushed.
        site: where.
        residual_norm: mean residual norm there.
        strengths: fractions of it.
        beginning: tokens of a text that the model goes on from.
        new_tokens: tokens it writes at temperature 1; 0 measures no repetition.
        generate_from: from how many of the texts it goes on.
        seed: seed of the sampling.
        batch_tokens: tokens per forward pass.

    Returns:
        `direction, kind, strength, nats_per_token, perplexity, n_tokens` (every token but the first is
        predicted) and, where
        asked for, `repetition`: share of the written runs of three tokens that the model has written before
            in the same text.

    Raises:
        UserError: repetition is asked for and fewer than one text has `beginning` tokens.
        Failure: the push changed nothing.
    """
    cells = [(one, float(strength)) for one in directions for strength in strengths]
    pushes = np.stack(
        [strength * residual_norm * one.vector / np.linalg.norm(one.vector) for one, strength in cells]
    )
    pushes = torch.from_numpy(pushes.astype(np.float32))
    total, count = np.zeros(len(pushes)), 0
    for _, tokens in equal_length_groups(texts):
        tokens = tokens.to(model.bridge.cfg.device)
        residual = stream_at(model.bridge, tokens, site)
        added = pushes.to(residual)
        pairs = torch.cartesian_prod(torch.arange(len(pushes)), torch.arange(len(tokens))).to(tokens.device)
        for part in pairs.split(max(1, batch_tokens // tokens.shape[1])):
            rows, columns = part.T
            stream = residual[columns] + added[rows][:, None]
            nats = _nats(resume(model.bridge, tokens[columns], site, stream), tokens[columns])
            np.add.at(total, rows.cpu().numpy(), nats.sum(dim=1).cpu().numpy())
        count += tokens[:, 1:].numel()
    table = pd.DataFrame(
        [(one.name, one.kind, strength) for one, strength in cells], columns=["direction", "kind", "strength"]
    )
    mean = total / max(1, count)
    table = table.assign(nats_per_token=mean, perplexity=np.exp(mean), n_tokens=count)
    if new_tokens:
        starts = torch.tensor(
            [list(text[:beginning]) for text in texts if len(text) >= beginning][:generate_from]
        )
        if not len(starts):
            raise UserError(
                f"no neutral text has {beginning} tokens", cure="lower `beginning` or give longer texts"
            )
        written = _written(model, starts, pushes, site, new_tokens, seed)
        table["repetition"] = [repetition(rows) for rows in written]
    return table


def repetition(tokens: Int[np.ndarray, "text new"]) -> float:
    """Share of the runs of three tokens that occurred before in the same text; 0 for texts shorter
    than that.
    """
    runs = [
        [tuple(row[place : place + REPEATED]) for place in range(len(row) - REPEATED + 1)]
        for row in tokens.tolist()
    ]
    total = sum(map(len, runs))
    return 1 - sum(len(set(row)) for row in runs) / total if total else 0.0


def _written(
    model: LanguageModel,
    starts: Int[Tensor, "text pos"],
    pushes: Float[Tensor, "cell d_model"],
    site: str,
    new_tokens: int,
    seed: int,
) -> Int[np.ndarray, "cell text new"]:
    """Continuations of every start under every push, all in one batch with one key-value cache."""
    rows = starts.repeat(len(pushes), 1).to(model.bridge.cfg.device)
    vectors = pushes.repeat_interleave(len(starts), dim=0)
    with push(model.bridge, {site: vectors} if bool(vectors.any()) else {}):
        found = sample(model.bridge, rows, new_tokens, seed=seed)
    return found.cpu().numpy().reshape(len(pushes), len(starts), new_tokens)


def _nats(
    logits: Float[Tensor, "prompt pos d_vocab"], tokens: Int[Tensor, "prompt pos"]
) -> Float[Tensor, "prompt later"]:
    predicted = logits[:, :-1].double().log_softmax(-1)
    return -predicted.gather(-1, tokens[:, 1:, None])[..., 0]
