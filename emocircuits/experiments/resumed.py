"""Many edited forward passes at once: what lies before the edited site runs only once for each prompt."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import Failure, UserError
from emocircuits.models.language_model import LanguageModel
from emocircuits.passes.resume import resume, stream_at

Metric = Callable[[Tensor], Tensor]
Hooks = list[tuple[str, Callable]]
# (rows, columns) of a batch -> the stream at the site to go on with, and hooks at later sites
Pass = Callable[[Tensor, Tensor], tuple[Tensor, Hooks]]
# (tokens, their stream at the site) of a group of prompts -> how each of its passes is made
Plan = Callable[[Tensor, Tensor], Pass]


def equal_length_groups(
    prompts: Sequence[Sequence[int]],
) -> Iterator[tuple[Int[np.ndarray, "group"], Int[Tensor, "group pos"]]]:
    """Prompts of the same length together, shortest first: their places in the list, and their tokens (no
    padding).
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        yield places, torch.tensor([list(prompts[place]) for place in places])


@torch.no_grad()
def resumed_metric(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    n_rows: int,
    plan: Plan,
    metric: Metric,
    *,
    site: str,
    batch_tokens: int = 4096,
    tick: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "row prompt *rest"]:
    """The metric of every prompt in every row, a row being one way to edit the stream at the site and behind
    it.

    Args:
        model: the model.
        prompts: token ids.
        n_rows: how many ways.
        plan: makes the edited streams.
        metric: logits `(prompt, pos, d_vocab)` -> one number (or several) per prompt, read at the last
            position.
        site: a `hook_resid_post` site.
        batch_tokens: tokens per forward pass.
        tick: called with the number of finished (row, prompt) pairs.

    Raises:
        UserError: no prompts.
        Failure: the resumed forward pass differs from the whole one.
    """
    if not len(prompts):
        raise UserError("there are no prompts to steer")
    device = model.bridge.cfg.device
    results: np.ndarray | None = None
    for places, tokens in equal_length_groups(prompts):
        tokens = tokens.to(device)
        residual = stream_at(model.bridge, tokens, site)
        whole = metric(model.bridge(tokens, use_cache=False, logits_to_keep=1))
        _check_resumed(metric(resume(model.bridge, tokens, site, residual, last=True)), whole, site)
        if results is None:
            results = np.zeros((n_rows, len(prompts), *whole.shape[1:]))
        make = plan(tokens, residual)
        pairs = [(row, column) for row in range(n_rows) for column in range(len(places))]
        size = max(1, batch_tokens // tokens.shape[1])
        for start in range(0, len(pairs), size):
            rows, columns = (
                torch.tensor(part, device=device) for part in zip(*pairs[start : start + size], strict=True)
            )
            stream, hooks = make(rows, columns)
            logits = resume(model.bridge, tokens[columns], site, stream, last=True, hooks=hooks)
            values = metric(logits).double().cpu().numpy()
            results[rows.cpu().numpy(), places[columns.cpu().numpy()]] = values
            if tick:
                tick(len(values))
    return results


def _check_resumed(found: Tensor, whole: Tensor, site: str) -> None:
    gap = float((found - whole).abs().max())
    if gap > 1e-3 * max(1.0, float(whole.abs().max())):
        raise Failure(
            f"resuming the forward pass at {site} changes the metric by {gap:.3g}",
            expected="the same numbers",
            cure="this architecture cannot be resumed in the middle",
        )
