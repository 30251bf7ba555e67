"""Many edited forward passes at once: what lies before the edited site runs only once for each prompt."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import Failure, UserError
from emocircuits.models.language_model import LanguageModel
from emocircuits.passes.metric import Metric
from emocircuits.passes.resume import resume, stream_at

Hooks = list[tuple[str, Callable]]
# (rows, columns) of a batch -> the stream to resume with at the site, and hooks at later sites
Edited = Callable[[Tensor, Tensor], tuple[Tensor, Hooks]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Ways to edit the stream at a site and after it, one a row.

    Attributes:
        site: a `hook_resid_post` site.
        count: how many.
        plan: (tokens, their stream at the site) of a group of prompts -> how its passes are made.
    """

    site: str
    count: int
    plan: Callable[[Tensor, Tensor], Edited]


def equal_length_groups(
    prompts: Sequence[Sequence[int]],
) -> Iterator[tuple[Int[np.ndarray, "group"], Int[Tensor, "group pos"]]]:
    """Prompts of the same length together, shortest first: their numbers in the list, and their tokens (no
    padding).
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    for length in np.unique(lengths):
        numbers = np.flatnonzero(lengths == length)
        yield numbers, torch.tensor([list(prompts[number]) for number in numbers])


@torch.no_grad()
def resumed_metric(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    rows: Rows,
    metric: Metric,
    *,
    batch_tokens: int = 4096,
    tick: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "row prompt *rest"]:
    """The metric of every prompt in every row.

    Args:
        model: the model.
        prompts: token ids.
        rows: how the streams are edited.
        metric: logits `(prompt, pos, d_vocab)` -> one number (or several) per prompt, read at the last
            position.
        batch_tokens: tokens per forward pass.
        tick: called with the number of finished (row, prompt) pairs.

    Raises:
        UserError: no prompts.
        Failure: the resumed forward pass differs from the whole one.
    """
    if not len(prompts):
        raise UserError("there are no prompts to steer")
    device, site = model.bridge.cfg.device, rows.site
    results: np.ndarray | None = None
    for numbers, tokens in equal_length_groups(prompts):
        tokens = tokens.to(device)
        residual = stream_at(model.bridge, tokens, site)
        whole = metric(model.bridge(tokens, use_cache=False, logits_to_keep=1))
        _check_resumed(metric(resume(model.bridge, tokens, site, residual, last=True)), whole, site)
        if results is None:
            results = np.zeros((rows.count, len(prompts), *whole.shape[1:]))
        edited = rows.plan(tokens, residual)
        pairs = [(row, column) for row in range(rows.count) for column in range(len(numbers))]
        size = max(1, batch_tokens // tokens.shape[1])
        for start in range(0, len(pairs), size):
            chosen, columns = (
                torch.tensor(part, device=device) for part in zip(*pairs[start : start + size], strict=True)
            )
            stream, hooks = edited(chosen, columns)
            logits = resume(model.bridge, tokens[columns], site, stream, last=True, hooks=hooks)
            values = metric(logits).double().cpu().numpy()
            results[chosen.cpu().numpy(), numbers[columns.cpu().numpy()]] = values
            if tick:
                tick(len(values))
    return results


def _check_resumed(resumed: Tensor, whole: Tensor, site: str) -> None:
    gap = float((resumed - whole).abs().max())
    if gap > 1e-3 * max(1.0, float(whole.abs().max())):
        raise Failure(
            f"resuming the forward pass at {site} changes the metric by {gap:.3g}",
            expected="the same numbers",
            cure="this architecture cannot be resumed in the middle",
        )
