"""How much of what a model may write each behaviour's words cover, and whether its two sides differ at all.

A rate is a share of the behaviour's and the honest words. Where those cover little of the model's
probability, the rate says little of what the model would do, and only the log-odds may be compared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import BoundBehaviour, bind
from emocircuits.errors import UserError
from emocircuits.experiments.continuations import continuation_odds, has_continuations
from emocircuits.experiments.resumed import equal_length_groups
from emocircuits.limits import GOOD_COVERAGE
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import bootstrap_interval
from emocircuits.progress import say, track

UNCOVERED = 8  # continuations that are shown


def behaviour_coverage(
    model: LanguageModel, names: Sequence[str] = (), *, pairs: int = 16, seed: int = 0
) -> list[dict[str, Any]]:
    """One row per behaviour that the model has words for, measured on held-out prompts.

    Args:
        model: the model.
        names: which behaviours; none given takes all. Those that do not fit the model are left out with a
            line.
        pairs: at most so many prompt pairs of each.
        seed: of the intervals.

    Returns:
        Rows `behaviour, material, pairs, p_act, p_honest, coverage, says, effect, effect_low, effect_high,
        right_sign, first_option, separation, whole, whole_effect, left_out, uncovered`: mean probabilities
        over both sides, `effect` the mean log-odds clean − corrupt with its interval, `right_sign` the share
        of pairs in which it is positive, `first_option` the share of choices of the first option whatever it
        is, `separation` as in `OwnWords`, `whole` the log-odds of whole continuations where there are any,
        `uncovered` the likeliest tokens that are neither.

    Raises:
        UserError: an unknown behaviour, or one alone that does not fit the model.
    """
    rows = []
    for name in track(names or BEHAVIOURS.names(), "behaviours"):
        try:
            bound = bind(BEHAVIOURS.get(name), model)
        except UserError as error:
            if len(names) == 1:
                raise
            say(f"{name} is left out: {error.what}")
            continue
        rows.append(_row(model, bound, pairs, seed))
    return rows


@torch.no_grad()
def _row(model: LanguageModel, bound: BoundBehaviour, most: int, seed: int) -> dict[str, Any]:
    pairs = bound.pairs("score", most)
    metric, odds, shares, mean = bound.metric_on(pairs), [], [], 0.0
    for side in ("clean", "corrupt"):
        encoded = [model.encode(getattr(pair, side)) for pair in pairs]
        values, both = np.zeros(len(pairs)), np.zeros((len(pairs), 2))
        for numbers, tokens in equal_length_groups(encoded):
            index = torch.from_numpy(numbers)
            logits = model.bridge(tokens.to(model.bridge.cfg.device), use_cache=False, logits_to_keep=1)
            values[numbers] = metric(logits, index).double().cpu().numpy()
            both[numbers] = metric.probabilities(logits, index).cpu().numpy()
            mean = mean + logits[:, -1].double().softmax(-1).sum(0).cpu()
        odds.append(values)
        shares.append(both)
    act, honest = np.concatenate(shares).mean(axis=0)
    effect = odds[0] - odds[1]
    low, high = bootstrap_interval(effect, seed=seed)
    second = np.isin(np.arange(len(pairs)), list(metric.swapped))
    first = [np.where(second, both[:, 1], both[:, 0]).mean() for both in shares]
    mean[[*metric.target_ids, *metric.honest_ids]] = 0
    whole = (
        [continuation_odds(model, pairs, side) for side in ("clean", "corrupt")]
        if has_continuations(pairs)
        else None
    )
    top = (mean / (2 * len(pairs))).topk(UNCOVERED)
    return {
        "behaviour": bound.behaviour.name,
        "material": bound.material.name,
        "pairs": len(bound.find) + len(bound.score),
        "p_act": float(act),
        "p_honest": float(honest),
        "coverage": float(act + honest),
        "says": "rates" if act + honest >= GOOD_COVERAGE else "log-odds only",
        "effect": float(effect.mean()),
        "effect_low": float(low),
        "effect_high": float(high),
        "right_sign": float((effect > 0).mean()),
        "first_option": float(np.mean(first) / (act + honest)) if metric.swapped else None,
        "separation": None if bound.own is None else bound.own.separation,
        "whole": None if whole is None else float(np.mean(whole)),
        "whole_effect": None if whole is None else float((whole[0] - whole[1]).mean()),
        "left_out": " ".join(bound.material.left_out),
        "uncovered": " ".join(
            f"{text.strip() or repr(text)} {share:.2f}"
            for text, share in zip(model.token_texts(top.indices.tolist()), top.values.tolist(), strict=True)
        ),
    }
