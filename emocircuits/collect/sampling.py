"""Continuations sampled by the model itself: batched, with a key-value cache, the same whatever the batch.

Every row brings its own uniform numbers, one per step, and takes the token at which the cumulative distribution passes
that number (inverse-transform sampling). So a row's text depends on its seed alone, not on its neighbours in the batch
(up to the rounding of the logits).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@torch.no_grad()
def sample_continuations(
    model: Any,
    prompts: Int[Tensor, "row pos"],
    uniforms: Float[Tensor, "row step"],
    *,
    temperature: float = 1.0,
    banned: Bool[Tensor, "row d_vocab"] | None = None,
    stop: Sequence[int] = (),
) -> list[list[int]]:
    """Samples at most as many tokens as there are steps.

    Args:
        model: a `LanguageModel`.
        prompts: prompts of one token length.
        uniforms: numbers in [0, 1), float64.
        temperature: logits are divided by it before the softmax; 0 takes the most likely token.
        banned: per row, tokens that get probability 0 (the rest is renormalised).
        stop: tokens that end a text; they are not part of it.

    Returns:
        The new tokens of every row, without the stop token.
    """
    network = model.bridge.original_model
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    new: list[list[int]] = [[] for _ in range(len(prompts))]
    tokens, past = prompts, None
    for step in range(uniforms.shape[1]):
        out = network(tokens.to(model.bridge.cfg.device), past_key_values=past, use_cache=True)
        past = out.past_key_values
        chosen = choose(out.logits[:, -1].cpu(), uniforms[:, step], temperature, banned)
        for row, token in enumerate(chosen.tolist()):
            ended[row] |= token in stop
            if not ended[row]:
                new[row].append(token)
        if bool(ended.all()):
            break
        tokens = chosen[:, None]
    return new


def choose(
    logits: Float[Tensor, "row d_vocab"],
    uniform: Float[Tensor, "row"],
    temperature: float,
    banned: Bool[Tensor, "row d_vocab"] | None,
) -> Int[Tensor, "row"]:
    """One token per row: the first whose cumulative probability exceeds the row's uniform number."""
    logits = logits.double()
    if banned is not None:
        logits = logits.masked_fill(banned, float("-inf"))
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    # Scaling by the total keeps a number near 1 off the end, where rounding leaves the sum below it.
    return torch.searchsorted(cumulative, uniform.double()[:, None] * cumulative[:, -1:], right=True)[:, 0].clamp(
        max=logits.shape[1] - 1
    )
