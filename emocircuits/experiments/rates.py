"""How likely the model is to act: the rate of a behaviour after each of some prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.behaviours.metrics import LogOdds
from emocircuits.experiments.resumed import equal_length_groups
from emocircuits.models.language_model import LanguageModel


@torch.no_grad()
def prompt_rates(
    model: LanguageModel, prompts: Sequence[Sequence[int]], metric: LogOdds, *, batch_tokens: int = 4096
) -> tuple[Float[np.ndarray, "prompt"], Float[np.ndarray, "prompt"]]:
    """The rate after every prompt, P(behaviour) over P(behaviour or honest), and the coverage, that is
    P(behaviour or honest).

    Args:
        model: the model.
        prompts: token ids; their places are the numbers that the metric knows them by.
        metric: the behaviour's log-odds, read at the last position.
        batch_tokens: tokens per forward pass.
    """
    bridge, rates, coverage = model.bridge, np.zeros(len(prompts)), np.zeros(len(prompts))
    for numbers, tokens in equal_length_groups(prompts):
        at_once = max(1, batch_tokens // tokens.shape[1])
        for first in range(0, len(numbers), at_once):
            now = slice(first, first + at_once)
            logits = bridge(tokens[now].to(bridge.cfg.device), use_cache=False, logits_to_keep=1)
            index = torch.from_numpy(numbers[now])
            rates[numbers[now]] = metric.rate(logits, index).double().cpu().numpy()
            coverage[numbers[now]] = metric.probabilities(logits, index).sum(-1).cpu().numpy()
    return rates, coverage
