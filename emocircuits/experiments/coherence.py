"""Coherence under steering: is a moved behaviour just a broken model?

Perplexity of neutral text, and how much the model repeats itself when it continues the beginnings of such
texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.direction import Direction
from emocircuits.artifacts.push import Push
from emocircuits.errors import UserError
from emocircuits.experiments.resumed import Crew, equal_length_groups
from emocircuits.experiments.steered import site_of
from emocircuits.interventions.generate import sample
from emocircuits.interventions.steer import steer
from emocircuits.models.language_model import LanguageModel
from emocircuits.passes.resume import stream_at
from emocircuits.threads import side_by_side

REPEATED = 3  # tokens that make a repetition


@dataclass(frozen=True)
class CoherenceSettings:
    """How much is steered and written.

    Attributes:
        strengths: fractions of the mean residual norm.
        beginning: tokens of a text that the model continues.
        new_tokens: tokens it writes at temperature 1; 0 measures no repetition.
        generate_from: how many of the texts it continues.
        seed: seed of the sampling.
        batch_tokens: tokens per forward pass.
    """

    strengths: tuple[float, ...] = (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5)
    beginning: int = 16
    new_tokens: int = 0
    generate_from: int = 8
    seed: int = 0
    batch_tokens: int = 2048


@torch.no_grad()
def coherence(
    model: LanguageModel,
    texts: Sequence[Sequence[int]],
    directions: Sequence[Direction],
    settings: CoherenceSettings | None = None,
) -> pd.DataFrame:
    """Perplexity of texts (token ids with BOS) under steering at every position, and repetition of what the
    model writes.

    Args:
        model: the model.
        texts: neutral texts.
        directions: what is pushed, all at one site.
        settings: strengths, and how much is written.

    Returns:
        `direction, kind, strength, nats_per_token, perplexity, n_tokens` (every token but the first is
        predicted) and, where
        asked for, `repetition`: share of the written runs of three tokens that the model has written before
            in the same text.

    Raises:
        UserError: repetition is asked for and fewer than one text has `beginning` tokens.
        Failure: the push changed nothing.
    """
    settings, site = settings or CoherenceSettings(), site_of(directions)
    cells = [(direction, float(strength)) for direction in directions for strength in settings.strengths]
    pushes = torch.stack([direction.push(strength).vector for direction, strength in cells])
    crew = Crew.of(model.bridge)

    def passes() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _, tokens in equal_length_groups(texts):
            tokens = tokens.to(model.bridge.cfg.device)
            residual = stream_at(model.bridge, tokens, site)
            added = pushes.to(residual)
            pairs = torch.cartesian_prod(torch.arange(len(pushes)), torch.arange(len(tokens)))
            for part in pairs.split(max(1, settings.batch_tokens // tokens.shape[1])):
                rows, columns = part.T.to(tokens.device)
                yield rows, tokens[columns], residual[columns] + added[rows][:, None]

    @torch.no_grad()
    def measure(number: int, item: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        rows, tokens, stream = item
        return rows, _nats(crew.resume(number, tokens, site, stream, last=False), tokens).sum(dim=1)

    total, count = np.zeros(len(pushes)), sum(len(text) - 1 for text in texts)
    for rows, nats in side_by_side(measure, passes(), range(len(crew.bridges))):
        np.add.at(total, rows.cpu().numpy(), nats.cpu().numpy())
    table = pd.DataFrame(
        [(direction.name, direction.kind, strength) for direction, strength in cells],
        columns=["direction", "kind", "strength"],
    )
    mean = total / max(1, count)
    table = table.assign(nats_per_token=mean, perplexity=np.exp(mean), n_tokens=count)
    if settings.new_tokens:
        long = [text for text in texts if len(text) >= settings.beginning]
        if not long:
            raise UserError(
                f"no neutral text has {settings.beginning} tokens",
                cure="lower `beginning` or give longer texts",
            )
        starts = torch.tensor([list(text[: settings.beginning]) for text in long[: settings.generate_from]])
        written = _written(model, starts, Push("each row's own", site, pushes), settings)
        table["repetition"] = [repetition(rows) for rows in written]
    return table


def repetition(tokens: Int[np.ndarray, "text new"]) -> float:
    """Share of the runs of three tokens that occurred before in the same text; 0 for texts shorter
    than that.
    """
    runs = [
        [tuple(row[start : start + REPEATED]) for start in range(len(row) - REPEATED + 1)]
        for row in tokens.tolist()
    ]
    total = sum(map(len, runs))
    return 1 - sum(len(set(row)) for row in runs) / total if total else 0.0


def _written(
    model: LanguageModel, starts: Int[Tensor, "text pos"], push: Push, settings: CoherenceSettings
) -> Int[np.ndarray, "cell text new"]:
    """Continuations of every start under every push, all in one batch with one key-value cache."""
    n_pushes = len(push.vector)
    rows = starts.repeat(n_pushes, 1).to(model.bridge.cfg.device)
    each_row = replace(push, vector=push.vector.repeat_interleave(len(starts), dim=0))
    with steer(model.bridge, each_row):
        tokens = sample(model.bridge, rows, settings.new_tokens, seed=settings.seed)
    return tokens.cpu().numpy().reshape(n_pushes, len(starts), settings.new_tokens)


def _nats(
    logits: Float[Tensor, "prompt pos d_vocab"], tokens: Int[Tensor, "prompt pos"]
) -> Float[Tensor, "prompt later"]:
    predicted = logits[:, :-1].double().log_softmax(-1)
    return -predicted.gather(-1, tokens[:, 1:, None])[..., 0]
