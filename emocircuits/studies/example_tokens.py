"""A circuit's example prompt token by token: readings of the emotion and its opposite, and where the decision
looks.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from emocircuits.experiments.readings import token_readings
from emocircuits.passes.anatomy import open_anatomy
from emocircuits.passes.hooks import recorded
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.runs.run import Run

MOST_HEADS, MOST_TOKENS = 8, 128


@torch.no_grad()
def example_tokens(run: Run, example: PairBatch) -> dict[str, Any]:
    """What `tokens_<behaviour>.json` holds.

    Args:
        run: the run.
        example: the example's pair.

    Returns:
        `sides`: for `clean` and `corrupt` the `tokens` and their `readings` (emotion -> one value per token,
            None at the attention sink); `site` where they were read; `heads`: of the clean prompt the heads
            whose last token looks most at the tokens in which the sides differ, each with `name`, `share`
            (how much of its attention goes there) and `pattern`; none for a prompt of more than `MOST_TOKENS`
            tokens.
    """
    model, directions, recipe = run.model, run.directions, run.recipe
    emotions = [name for name in (recipe.emotion, recipe.opposite) if name in directions.emotions]
    sides = {}
    for name, tokens in (("clean", example.clean[0]), ("corrupt", example.corrupt[0])):
        values = token_readings(model, directions, [tokens.tolist()], emotions)[0]
        readings = {
            emotion: [_short(value) for value in values[:, column]] for column, emotion in enumerate(emotions)
        }
        sides[name] = {"tokens": model.token_texts(tokens.tolist()), "readings": readings}
    heads = _heads(model.bridge, example) if example.clean.shape[1] <= MOST_TOKENS else []
    return {"site": directions.read_site, "sides": sides, "heads": heads}


def _heads(model: Any, example: PairBatch) -> list[dict[str, Any]]:
    differs = (example.clean[0] != example.corrupt[0]).cpu()
    differs[-1] = False
    patterns = attention_patterns(model, example.clean)
    shares = {name: float(pattern[-1][differs].sum()) for name, pattern in patterns.items()}
    strongest = sorted(shares, key=lambda name: -shares[name])[:MOST_HEADS]
    return [
        {
            "name": name,
            "share": round(shares[name], 4),
            "pattern": np.round(patterns[name].double().numpy(), 3).tolist(),
        }
        for name in strongest
    ]


def attention_patterns(
    model: Any, tokens: Int[torch.Tensor, "1 pos"]
) -> dict[str, Float[torch.Tensor, "pos pos"]]:
    """Attention of every head on one prompt by name (`a2.h3`): rows look, columns are looked at."""
    anatomy = open_anatomy(model, tokens)
    names = [layer.hook("hook_pattern") for layer in anatomy.layers]
    with recorded(model, (), optional=names, keep=lambda value: value.float().cpu()) as patterns:
        model(tokens)
    return {
        f"a{number}.h{head}": patterns[name][0, head]
        for number, name in enumerate(names)
        if name in patterns
        for head in range(patterns[name].shape[1])
    }


def _short(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
