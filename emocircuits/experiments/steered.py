"""Many steered forward passes at once: a push per row of the batch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import Failure, UserError
from emocircuits.experiments.resumed import Crew, Metric, Rows, equal_length_groups, resumed_metric
from emocircuits.models.language_model import LanguageModel

__all__ = ["Metric", "equal_length_groups", "site_of", "steered_metric"]


def site_of(directions: Sequence[Direction]) -> str:
    """The site that all directions share.

    Raises:
        UserError: none, or directions at several sites.
    """
    sites = list(dict.fromkeys(direction.site for direction in directions))
    if len(sites) != 1:
        raise UserError(
            f"{len(directions)} directions at {len(sites)} sites",
            expected="at least one direction, and all at one site",
        )
    return sites[0]


@torch.no_grad()
def steered_metric(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    pushes: Float[np.ndarray, "row d_model"],
    metric: Metric,
    *,
    site: str,
    crew: Crew | None = None,
    batch_tokens: int = 4096,
    tick: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "row prompt *rest"]:
    """The metric at the last position of every prompt under every push; the push is added at every position
    of the site.

    The residual stream at the site is computed once per prompt and only the later blocks run for each push.

    Args:
        model: the model.
        prompts: token ids.
        pushes: what is added in each row (`Push.vector`); a zero row is the unsteered model.
        metric: logits `(prompt, pos, d_vocab)` -> one number (or several) per prompt, read at the last
            position.
        site: a `hook_resid_post` site.
        crew: replicas of the model, where several calls share them.
        batch_tokens: tokens per forward pass.
        tick: called with the number of finished (row, prompt) pairs.

    Raises:
        UserError: no prompts.
        Failure: the resumed forward pass differs from the whole one, or a push changed nothing.
    """
    vectors = torch.as_tensor(pushes).to(model.bridge.cfg.device)

    def plan(tokens: torch.Tensor, residual: torch.Tensor):
        return lambda rows, columns: (residual[columns] + vectors[rows].to(residual.dtype)[:, None, :], [])

    rows = Rows(site, len(pushes), plan)
    results = resumed_metric(model, prompts, rows, metric, crew=crew, batch_tokens=batch_tokens, tick=tick)
    _check_live(results, pushes, site)
    return results


def _check_live(results: np.ndarray, pushes: np.ndarray, site: str) -> None:
    moved, still = (
        np.flatnonzero(np.abs(pushes).sum(axis=1) > 0),
        np.flatnonzero(np.abs(pushes).sum(axis=1) == 0),
    )
    if (
        len(moved)
        and len(still)
        and np.array_equal(np.broadcast_to(results[still[0]], results[moved].shape), results[moved])
    ):
        raise Failure(
            f"steering at {site} changed nothing", expected="other logits", cure="check the hook name"
        )
