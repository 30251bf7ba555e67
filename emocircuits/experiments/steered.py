"""Many steered forward passes at once: a push per row of the batch, and the blocks before the site run only once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.emotion_directions import EmotionDirections
from emocircuits.errors import Failure, UserError, unknown
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.resume import logits_from, residual_at

Metric = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SteeringDirection:
    """A unit direction with a name and what it is: `emotion`, `random`, `content` or `shuffled`."""

    name: str
    kind: str
    vector: Float[np.ndarray, "d_model"]


def steering_directions(
    directions: EmotionDirections, emotions: Sequence[str], *, site: str | None = None,
    kinds: Sequence[str] = ("random", "content", "shuffled"),
) -> tuple[SteeringDirection, ...]:
    """The emotions asked for and all controls at a site (default: the directions' steering site).

    Raises:
        UserError: an unknown emotion, site or kind of control.
    """
    site = site or directions.steer_site
    place = directions.site_index(site)
    chosen = [SteeringDirection(emotion, "emotion", directions.vector(emotion, site)) for emotion in emotions]
    for kind in kinds:
        if kind not in directions.controls:
            raise unknown("kind of control", kind, directions.controls)
        control = directions.controls[kind]
        chosen += [SteeringDirection(name, kind, vector) for name, vector in zip(control.names, control.vectors[place], strict=True)]
    return tuple(chosen)


def equal_length_groups(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[Int[np.ndarray, "group"], Int[Tensor, "group pos"]]]:
    """Prompts of the same length together, shortest first: their places in the list, and their tokens (no padding)."""
    lengths = np.array([len(prompt) for prompt in prompts])
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        yield places, torch.tensor([list(prompts[place]) for place in places])


@torch.no_grad()
def steered_metric(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    pushes: Float[np.ndarray, "row d_model"],
    metric: Metric,
    *,
    site: str,
    batch_tokens: int = 4096,
    tick: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "row prompt"]:
    """The metric at the last position of every prompt under every push; the push is added at every position of the site.

    The residual stream at the site is computed once per prompt and only the later blocks run for each push.

    Args:
        model: the model.
        prompts: token ids.
        pushes: vectors in residual units (strength × mean residual norm × unit direction); a zero row is the unsteered model.
        metric: logits `(prompt, pos, d_vocab)` -> one number per prompt, read at the last position.
        site: a `hook_resid_post` site.
        batch_tokens: tokens per forward pass.
        tick: called with the number of finished (row, prompt) pairs.

    Raises:
        UserError: no prompts.
        Failure: the resumed forward pass differs from the whole one, or a push changed nothing.
    """
    if not len(prompts):
        raise UserError("there are no prompts to steer")
    device = model.bridge.cfg.device
    vectors = torch.as_tensor(pushes).to(device)
    results = np.zeros((len(pushes), len(prompts)))
    for places, tokens in equal_length_groups(prompts):
        tokens = tokens.to(device)
        residual = residual_at(model.bridge, tokens, site)
        whole = metric(model.bridge(tokens, use_cache=False, logits_to_keep=1))
        _check_resumed(metric(logits_from(model.bridge, tokens, site, residual)), whole, site)
        pairs = [(row, column) for row in range(len(pushes)) for column in range(len(places))]
        size = max(1, batch_tokens // tokens.shape[1])
        for start in range(0, len(pairs), size):
            rows, columns = (torch.tensor(part, device=device) for part in zip(*pairs[start:start + size], strict=True))
            stream = residual[columns] + vectors[rows].to(residual.dtype)[:, None, :]
            values = metric(logits_from(model.bridge, tokens[columns], site, stream)).double().cpu().numpy()
            results[rows.cpu().numpy(), places[columns.cpu().numpy()]] = values
            if tick:
                tick(len(values))
    _check_live(results, pushes, site)
    return results


def _check_resumed(found: Tensor, whole: Tensor, site: str) -> None:
    gap = float((found - whole).abs().max())
    if gap > 1e-3 * max(1.0, float(whole.abs().max())):
        raise Failure(f"resuming the forward pass at {site} changes the metric by {gap:.3g}", expected="the same numbers",
                      cure="this architecture cannot be resumed in the middle")


def _check_live(results: np.ndarray, pushes: np.ndarray, site: str) -> None:
    moved, still = np.flatnonzero(np.abs(pushes).sum(axis=1) > 0), np.flatnonzero(np.abs(pushes).sum(axis=1) == 0)
    if len(moved) and len(still) and np.array_equal(np.broadcast_to(results[still[0]], results[moved].shape), results[moved]):
        raise Failure(f"steering at {site} changed nothing", expected="other logits", cure="check the hook name")
