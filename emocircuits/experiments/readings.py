"""Readings: how strongly each token of a text projects on a direction.

    reading = <x - m, v> / (mean residual norm)

x is the residual stream at the reading site, v a unit direction, m the mean over emotions that was taken off
when the direction was made. A reading is positive when there is more of the emotion than in the average
story, and its unit is the unit of steering strength. Position 0 (attention sink) has no meaningful reading
and is NaN in token readings.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from transformers import DynamicCache

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.steered import equal_length_groups
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.hooks import recorded
from emocircuits.passes.resume import stream_at


def stream_reader(
    directions: EmotionDirections, emotions: Sequence[str], site: str
) -> Callable[[Float[np.ndarray, "*row d_model"]], Float[np.ndarray, "*row emotion"]]:
    """The residual stream of a site -> the readings of some emotions.

    Raises:
        UserError: an unknown emotion or site.
    """
    vectors = np.stack([directions.vector(emotion, site) for emotion in emotions]).astype(np.float64)
    offset = vectors @ directions.mean[directions.site_index(site)].astype(np.float64)
    scale = directions.scale(site)
    return lambda stream: (stream.astype(np.float64) @ vectors.T - offset) / scale


def token_readings(
    model: LanguageModel,
    directions: EmotionDirections,
    prompts: Sequence[Sequence[int]],
    emotions: Sequence[str],
    *,
    site: str | None = None,
    batch_tokens: int = 4096,
) -> list[Float[np.ndarray, "pos emotion"]]:
    """Readings at every token of every prompt.

    Args:
        model: the model the directions belong to.
        directions: the directions.
        prompts: token ids.
        emotions: which directions.
        site: where to read; the directions' reading site by default.
        batch_tokens: tokens per forward pass.

    Raises:
        UserError: a prompt without tokens or longer than the context, directions that were learned on another
            model, or an unknown emotion or site.
    """
    directions.check_model(model.name, model.content_hash, model.d_model)
    for ids in prompts:
        model.check_length(ids)
    site = site or directions.read_site
    read = stream_reader(directions, emotions, site)
    readings: list[np.ndarray] = [np.empty((0, len(emotions)))] * len(prompts)
    for numbers, tokens in equal_length_groups(prompts):
        size = max(1, batch_tokens // tokens.shape[1])
        for start in range(0, len(numbers), size):
            stream = (
                stream_at(model.bridge, tokens[start : start + size].to(model.bridge.cfg.device), site)
                .double()
                .cpu()
                .numpy()
            )
            values = read(stream)
            values[:, 0] = np.nan
            for prompt, rows in zip(numbers[start : start + size], values, strict=True):
                readings[prompt] = rows
    return readings


@torch.no_grad()
def long_readings(
    model: LanguageModel,
    directions: EmotionDirections,
    ids: Sequence[int],
    emotions: Sequence[str],
    *,
    site: str | None = None,
    chunk: int = 512,
    tick: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "pos emotion"]:
    """`token_readings` of one long prompt, a stretch at a time with the key-value cache: the same numbers up
    to rounding.

    Attention holds chunk × positions scores at once and not positions squared, and no activations but the
    readings are kept.

    Args:
        model: the model the directions belong to.
        directions: the directions.
        ids: token ids.
        emotions: which directions.
        site: where to read; the directions' reading site by default.
        chunk: tokens per pass.
        tick: called with the number of finished tokens.

    Raises:
        UserError: a prompt longer than the context, another model's directions, or an unknown emotion or
            site.
    """
    directions.check_model(model.name, model.content_hash, model.d_model)
    model.check_length(ids)
    if chunk < 1:
        raise UserError(f"{chunk} tokens per pass", expected="at least 1")
    site, device = site or directions.read_site, model.bridge.cfg.device
    read = stream_reader(directions, emotions, site)
    parts, cache = [], DynamicCache(config=model.bridge.original_model.config)
    with recorded(model.bridge, [site]) as streams:
        for start in range(0, len(ids), chunk):
            part = torch.tensor([list(ids[start : start + chunk])], device=device)
            model.bridge(part, past_key_values=cache, use_cache=True, logits_to_keep=1)
            stream = streams[site][0].double().cpu().numpy()
            parts.append(read(stream))
            if tick is not None:
                tick(part.shape[1])
    values = np.concatenate(parts)
    values[0] = np.nan
    return values


def phase_trace(
    model: LanguageModel,
    directions: EmotionDirections,
    phases: Sequence[tuple[str, str]],
    emotion: str,
    *,
    site: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean reading at the last token of texts, grouped by phase (for instance `failures 3`, `decision`,
    `passed`).

    Args:
        model: the model.
        directions: the directions.
        phases: pairs of phase and text up to that moment.
        emotion: which direction.
        site: where to read.
        seed: seed of the bootstrap.

    Returns:
        `phase, reading, ci_low, ci_high, n`, phases in order of first appearance.
    """
    if not phases:
        raise UserError("there are no texts to read")
    readings = token_readings(
        model, directions, [model.encode(text) for _, text in phases], [emotion], site=site
    )
    last = np.array([values[-1, 0] for values in readings])
    unread = next((text for (_, text), value in zip(phases, last, strict=True) if np.isnan(value)), None)
    if unread is not None:
        raise UserError(
            f"the text {unread[:40]!r} is one token, and the first token of a text has no reading",
            expected="at least two tokens",
        )
    rows = []
    for phase in dict.fromkeys(phase for phase, _ in phases):
        values = last[[name == phase for name, _ in phases]]
        low, high = bootstrap_interval(values, seed=seed)
        rows.append((phase, float(values.mean()), float(low), float(high), len(values)))
    return pd.DataFrame(rows, columns=["phase", "reading", "ci_low", "ci_high", "n"])
