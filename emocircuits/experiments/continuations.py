"""Whole continuations instead of single words: how much likelier the model finds the act, as it would be
written, than the honest deed.

    S = log P(act's text | prompt) - log P(honest text | prompt), nats, summed over their tokens

The texts are given (`[[frame]]` with `act` and `honest` of a scenario), so the model need not write anything;
hooks that are set, such as steering, run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.behaviours.material import PromptPair
from emocircuits.errors import UserError


def has_continuations(pairs: Sequence[PromptPair]) -> bool:
    """Whether all pairs say how the act and the honest deed go on."""
    return all("continuations" in pair.details for pair in pairs)


@torch.no_grad()
def continuation_odds(
    model: Any, pairs: Sequence[PromptPair], side: str = "clean"
) -> Float[np.ndarray, "pair"]:
    """S of one side of every pair.

    Args:
        model: a `LanguageModel`.
        pairs: pairs whose `details["continuations"]` are the two texts.
        side: `clean` or `corrupt`.

    Raises:
        UserError: a pair without continuations.
    """
    if not has_continuations(pairs):
        raise UserError(
            "these pairs do not say how the act goes on", expected="[[frame]] with act and honest"
        )
    odds = [
        _log_probability(model, getattr(pair, side), act)
        - _log_probability(model, getattr(pair, side), honest)
        for pair in pairs
        for act, honest in (pair.details["continuations"],)
    ]
    return np.array(odds)


def _log_probability(model: Any, prompt: str, continuation: str) -> float:
    """Log-probability of a continuation, token by token, after what it shares with the prompt alone."""
    before, whole = model.encode(prompt), model.encode(prompt + continuation)
    shared = next(
        (place for place, (one, other) in enumerate(zip(before, whole, strict=False)) if one != other),
        len(before),
    )
    tokens = torch.tensor([whole], device=model.bridge.cfg.device)
    log_probs: Tensor = model.bridge(tokens, use_cache=False)[0].double().log_softmax(-1)
    places = torch.arange(shared, len(whole), device=log_probs.device)
    return float(log_probs[places - 1, tokens[0, places]].sum())
