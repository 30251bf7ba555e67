"""Most metrics read the logits of the last position alone; then no others are computed.

Whether a metric does so is found by asking it about random logits, prompt by prompt and length by length.
They are overlapping views of one short vector, so that the question costs nothing next to a pass.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import Failure, UserError
from emocircuits.passes.last_logits import last_logits
from emocircuits.passes.pairs import Metric, measure


def run_metric(
    model: Any,
    tokens: Int[Tensor, "prompt pos"],
    metric: Metric,
    index: Int[Tensor, "prompt"],
    *,
    last: bool | None = None,
) -> Float[Tensor, "prompt"]:
    """Runs the model and measures.

    Args:
        model: any TransformerLens object; hooks that are set run.
        tokens: the prompts.
        metric: logits -> one value per prompt.
        index: numbers of the prompts.
        last: whether the metric reads the last position alone; it is asked where that is not known.

    Raises:
        UserError: the metric is not one value per prompt.
        Failure: NaN.
    """
    last = reads_last_position(model, metric, tokens.shape[1], index) if last is None else last
    return measure(metric, last_logits(model, tokens) if last else model(tokens), index)


@torch.no_grad()
def reads_last_position(model: Any, metric: Metric, length: int, index: Int[Tensor, "prompt"]) -> bool:
    """Whether a metric of prompts of this length gives the same on the last position's logits alone."""
    # one prompt says no sooner
    return length > 1 and all(
        _same(model, metric, length, index[:count]) for count in sorted({1, len(index)})
    )


def _same(model: Any, metric: Metric, length: int, index: Int[Tensor, "prompt"]) -> bool:
    vocabulary, weight = model.cfg.d_vocab, next(model.parameters())
    numbers = torch.randn(len(index) + length + vocabulary, generator=torch.Generator().manual_seed(0)).to(
        weight
    )
    logits = numbers.as_strided((len(index), length, vocabulary), (1, 1, 1))
    try:
        whole, last = (measure(metric, value, index) for value in (logits, logits[:, -1:]))
    # it needs the other positions, or logits of the model
    except (IndexError, RuntimeError, ValueError, UserError, Failure):
        return False
    return torch.equal(whole, last)
