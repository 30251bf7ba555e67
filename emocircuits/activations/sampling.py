"""Continuations sampled by the model itself: batched, with a key-value cache, the same whatever the batch.

Every row brings its own uniform numbers, one per step, and takes the token at which the cumulative
distribution passes that number (inverse-transform sampling). So a row's text depends on its seed alone, not
on its neighbours in the batch (up to the rounding of the logits).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@torch.no_grad()
def sample_continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    uniforms: Sequence[Float[np.ndarray, "_"]],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    banned: Bool[Tensor, "row d_vocab"] | None = None,
    stop: Sequence[int] = (),
) -> list[list[int]]:
    """Samples for every prompt at most as many tokens as it has uniform numbers.

    Prompts may differ in length and nothing is padded: all rows start at the shortest prompt's end, and a row
    whose prompt is longer takes its own next token instead of a sampled one.

    Args:
        model: a `LanguageModel`.
        prompts: token ids, none empty; prompts of similar length waste no work.
        uniforms: per prompt, numbers in [0, 1), one for each new token.
        temperature: logits are divided by it before the softmax; 0 takes the most likely token.
        top_p: tokens are drawn from the likeliest whose probabilities add up to it (Holtzman et al. 2020).
        banned: per row, tokens that get probability 0 (the rest is renormalised).
        stop: tokens that end a text; they are not part of it.

    Returns:
        The new tokens of every row, without the stop token.
    """
    network, device = model.bridge.original_model, model.bridge.cfg.device
    lengths, steps = [len(prompt) for prompt in prompts], [len(numbers) for numbers in uniforms]
    shortest = min(lengths)
    new: list[list[int]] = [[] for _ in prompts]
    ended = [step == 0 for step in steps]
    tokens, past = torch.tensor([list(prompt[:shortest]) for prompt in prompts]), None
    for position in range(shortest, max(length + step for length, step in zip(lengths, steps, strict=True))):
        out = network(tokens.to(device), past_key_values=past, use_cache=True)
        past = out.past_key_values
        now = [
            float(numbers[position - length]) if 0 <= position - length < step else 0.0
            for numbers, length, step in zip(uniforms, lengths, steps, strict=True)
        ]
        chosen = choose(
            out.logits[:, -1].cpu(),
            torch.tensor(now, dtype=torch.float64),
            temperature,
            banned=banned,
            top_p=top_p,
        ).tolist()
        for row, token in enumerate(chosen):
            if position < lengths[row]:
                chosen[row] = prompts[row][position]
            elif not ended[row]:
                ended[row] = token in stop
                if not ended[row]:
                    new[row].append(token)
                    ended[row] = len(new[row]) == steps[row]
        if all(ended):
            break
        tokens = torch.tensor(chosen)[:, None]
    return new


def choose(
    logits: Float[Tensor, "row d_vocab"],
    uniform: Float[Tensor, "row"],
    temperature: float,
    *,
    banned: Bool[Tensor, "row d_vocab"] | None = None,
    top_p: float = 1.0,
) -> Int[Tensor, "row"]:
    """One token per row: the first whose cumulative probability exceeds the row's uniform number."""
    logits = logits.double()
    if banned is not None:
        logits = logits.masked_fill(banned, float("-inf"))
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / temperature).softmax(-1)
    if top_p < 1:
        likely, order = probabilities.sort(-1, descending=True)
        beyond = likely.cumsum(-1) - likely >= top_p  # those before them have enough already
        probabilities = probabilities.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0)
    cumulative = probabilities.cumsum(-1)
    # Scaling by the total keeps a number near 1 off the end, where rounding leaves the sum below it.
    return torch.searchsorted(cumulative, uniform.double()[:, None] * cumulative[:, -1:], right=True)[
        :, 0
    ].clamp(max=logits.shape[1] - 1)
