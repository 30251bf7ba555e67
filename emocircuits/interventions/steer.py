"""Add pushes to the residual stream while the model runs.

    x  <-  x + strength * residual_norm * v / ||v||

`EmotionDirections.push` and `Direction.push` make what is added.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int

from emocircuits.artifacts.push import Push
from emocircuits.errors import UserError
from emocircuits.interventions.positions import Positions, Schedule, Weights, counted
from emocircuits.passes.edit import edited


@contextmanager
def steer(
    model: Any,
    push: Push | Sequence[Push],
    positions: Positions = None,
    *,
    schedule: Schedule | None = None,
    attention_mask: Int[torch.Tensor, "prompt pos"] | None = None,
) -> Iterator[None]:
    """Adds a push, or several, in every forward pass inside the context.

    Works with and without a key-value cache; every prompt that is written on inside the context has its own
    positions.

    Args:
        model: any TransformerLens object.
        push: what is added where; pushes at one site add up, and a push of length 0 changes nothing.
        positions: None or "all"; "generated" (the tokens after the prompt, so all new tokens but the first
            are drawn under the push); a span such as `slice(12, None)` (from
            position 12 on); or a list of positions. They count the prompt's own tokens, not its padding.
        schedule: position -> factor on the strength (`positions.ramp`, `positions.fade`, or a function).
        attention_mask: 0 where the prompts are padded; padding is not touched.

    Raises:
        UserError: a vector that is not finite or has another width or number of rows than the activation, or
            a position outside the prompt.
        Failure: a hook never ran or changed nothing.
    """
    vectors = summed([push] if isinstance(push, Push) else push)
    weights = {site: Weights(positions, schedule, attention_mask) for site in vectors}
    edits = {site: _edit(site, vector, weights[site]) for site, vector in vectors.items()}
    counters = [one.counter for one in weights.values()]
    with edited(model, edits, what="steer") if edits else nullcontext(), counted(model, counters):
        yield
        for one in weights.values():
            one.check()


def summed(pushes: Sequence[Push]) -> dict[str, Float[torch.Tensor, "*prompt d_model"]]:
    """What pushes add at each site together; nothing where they have no length."""
    sums: dict[str, torch.Tensor] = {}
    for push in pushes:
        vector = push.vector.detach().double()
        sums[push.site] = sums[push.site] + vector if push.site in sums else vector
    return {site: vector for site, vector in sums.items() if bool(vector.any())}


def _edit(site: str, vector: torch.Tensor, weights: Weights) -> Callable[[torch.Tensor], torch.Tensor]:
    if vector.ndim not in (1, 2) or not bool(torch.isfinite(vector).all()):
        raise UserError(
            f"the steering vector at {site} has shape {tuple(vector.shape)} or holds NaN or infinity",
            expected="finite numbers, (d_model,) or (prompt, d_model)",
        )

    def edit(x: torch.Tensor) -> torch.Tensor:
        if vector.shape[-1] != x.shape[-1]:
            raise UserError(
                f"the steering direction has {vector.shape[-1]} entries", expected=f"d_model {x.shape[-1]}"
            )
        if vector.ndim == 2 and len(vector) != len(x):
            raise UserError(
                f"{len(vector)} steering vectors at {site}", expected=f"one for each of the {len(x)} rows"
            )
        factors = torch.from_numpy(weights.next(*x.shape[:2])).to(x)
        added = vector.to(x)
        return x + factors[:, :, None] * (added if added.ndim == 1 else added[:, None])

    return edit
