"""Metrics: logits -> one value per prompt, and how a pass measures one without computing logits that it does
not read.

Most metrics read the logits of the last position alone; then no others are computed. Whether a metric does so
is found by asking it about made-up logits, prompt by prompt and length by length: its answer must be the same
when only the last position is there, whatever the others hold, also far less and far more than the last.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from emocircuits.errors import Failure, UserError

Metric = Callable[..., Tensor]
"""Logits `(prompt, pos, d_vocab)` -> one value per prompt. One that can take a second argument is given the
indices of the prompts in the batch."""
SLOPES = (0.0, 0.0, 0.0, 0.0, 1e3, -1e3)  # by which made-up logits rise from position to position


def measure(
    metric: Metric, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"]
) -> Float[Tensor, "prompt"]:
    """Calls a metric and checks its answer.

    Raises:
        UserError: the metric raises, or does not give one value per prompt.
        Failure: a value that is NaN or infinite.
    """
    try:
        values = ask(metric, logits, index)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"the metric raised {type(error).__name__} on a batch of {len(logits)} prompts, logits of shape "
            f"{tuple(logits.shape)}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            expected="one value per prompt for a batch of any size",
            cure="prompts run in batches in any order: data per prompt is looked up by the second argument, "
            "`def metric(logits, index)`, which holds the numbers of the prompts in the batch",
        ) from error
    if not isinstance(values, Tensor) or tuple(values.shape) != (len(logits),):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise UserError(
            f"the metric returned {got} for {len(logits)} prompts",
            expected=f"one value per prompt, ({len(logits)},)",
            cure="read the logits at one position and do not average over prompts",
        )
    if not bool(torch.isfinite(values).all()):
        raise Failure(
            "the metric is NaN or infinite", cure="check the model's weights and the metric's tokens"
        )
    return values


def ask(metric: Metric, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"]) -> Tensor:
    """What a metric answers, given the numbers of the prompts where it can take them."""
    return metric(logits, index) if takes_index(metric) else metric(logits)


def takes_index(metric: Metric) -> bool:
    """Whether a metric can take a second argument by position: the indices of the prompts."""
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = [one.kind for one in parameters]
    by_place = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    return by_place >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds


def run_metric(
    model: Any,
    tokens: Int[Tensor, "prompt pos"],
    metric: Metric,
    index: Int[Tensor, "prompt"],
    *,
    last: bool | None = None,
) -> Float[Tensor, "prompt"]:
    """Runs the model and measures; hooks that are set run.

    Args:
        model: any TransformerLens object.
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


def last_logits(model: Any, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt kept d_vocab"]:
    """The logits of the last position, or of all where the model knows no shorter way; hooks run as in any
    pass.

    With a small vocabulary the logits of all positions cost as much as a block or two, with a large one as
    much as the whole model.
    """
    if not isinstance(model, TransformerBridge):
        layers = model.cfg.n_layers
        return model(model(tokens, stop_at_layer=layers)[:, -1:], start_at_layer=layers)
    if "logits_to_keep" in inspect.signature(model.original_model.forward).parameters:
        return model(tokens, logits_to_keep=1)
    return model(tokens)


@torch.no_grad()
def reads_last_position(model: Any, metric: Metric, length: int, index: Int[Tensor, "prompt"]) -> bool:
    """Whether a metric of prompts of this length gives the same on the last position's logits alone."""
    # one prompt says no sooner
    return length > 1 and all(
        _last_is_enough(model, metric, length, index[:count]) for count in sorted({1, len(index)})
    )


def _last_is_enough(model: Any, metric: Metric, length: int, index: Int[Tensor, "prompt"]) -> bool:
    n_prompts, vocabulary = len(index), model.cfg.d_vocab
    source, like = torch.Generator().manual_seed(0), next(model.parameters())
    size = n_prompts * length + vocabulary
    for slope in SLOPES:
        numbers = torch.randn(size, generator=source) + slope * torch.arange(size) / n_prompts
        # rows are overlapping views of one vector, so the question takes no memory of all logits
        logits = numbers.to(like).as_strided((n_prompts, length, vocabulary), (1, n_prompts, 1))
        try:
            whole, last = (measure(metric, asked, index) for asked in (logits, logits[:, -1:]))
        except (UserError, Failure):  # it needs the other positions, or logits of the model
            return False
        if not torch.equal(whole, last):
            return False
    return True
