"""Rates of what a model writes when it continues freely, classified by rules: the slow, coarse companion of
the log-odds.
"""

from typing import Any

import pandas as pd
import torch

from emocircuits.behaviours.answers import ANSWERS, answer_rules
from emocircuits.interventions.generate import sample
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import wilson_interval
from emocircuits.progress import track

SIDES = ("clean", "corrupt", "neutral")


def sampled_rates(
    model: LanguageModel,
    bound: Any,
    *,
    samples: int = 4,
    n_tokens: int = 32,
    temperature: float = 1.0,
    prompts: int = 12,
    seed: int = 0,
) -> pd.DataFrame:
    """`side, kind, rate, ci_low, ci_high, n`: how often the model does what, under whatever interventions
    surround the call.

    Args:
        model: the model.
        bound: a behaviour bound to it (`emocircuits.behaviours.bind`).
        samples: answers per prompt.
        n_tokens: tokens per answer.
        temperature: of the sampling.
        prompts: held-out prompts per side.
        seed: seed of the sampling.

    Raises:
        UserError: there are no rules for the behaviour's answers.
    """
    kind_of, pairs, rows = answer_rules(bound.behaviour.name), bound.pairs("score", prompts), []
    for side in SIDES:
        texts = [
            pair.details["neutral"] if side == "neutral" else getattr(pair, side)
            for pair in pairs
            if side != "neutral" or "neutral" in pair.details
        ]
        kinds = []
        for number, text in enumerate(track(texts, f"sample {side}")):
            ids = torch.tensor([model.encode(text)] * samples, device=model.bridge.cfg.device)
            written = sample(model.bridge, ids, n_tokens, seed=seed + number, temperature=temperature)
            kinds += [kind_of(model.answer(ids)) for ids in written.tolist()]
        for kind in ANSWERS if kinds else ():
            count = kinds.count(kind)
            rows.append((side, kind, count / len(kinds), *wilson_interval(count, len(kinds)), len(kinds)))
    return pd.DataFrame(rows, columns=["side", "kind", "rate", "ci_low", "ci_high", "n"])
