"""Push the residual stream along a direction while the model runs.

    x  <-  x + strength * residual_norm * v / ||v||

`strength` is a fraction of the mean residual norm at the site (Sofroniew et al. 2026), so it means the same
in every model. Positive strength pushes towards the direction.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from emocircuits.errors import UserError
from emocircuits.interventions.positions import Positions, Schedule, Weights
from emocircuits.passes.edit import edited

LARGEST_STRENGTH = 2.0


@contextmanager
def steer(
    model: Any,
    site: str,
    vector: torch.Tensor | np.ndarray,
    strength: float | int,
    residual_norm: float | int,
    positions: Positions = None,
    *,
    schedule: Schedule | None = None,
    attention_mask: Int[torch.Tensor, "prompt pos"] | None = None,
) -> Iterator[None]:
    """Adds a direction at a site in every forward pass inside the context.

    Works with and without a key-value cache: a pass over one token after an earlier pass is taken as the next
    position, any longer pass as a new prompt from position 0.

    Args:
        model: any TransformerLens object.
        site: hook name.
        vector: direction `(d_model,)`; its length does not matter.
        strength: fraction of `residual_norm`, at most 2 either way; 0 changes nothing.
        residual_norm: mean norm of the residual stream at the site.
        positions: None or "all"; "generated" (behind the prompt); a span such as `slice(12, None)` (from
            position 12 on); or a list of positions. They count the prompt's own tokens, not its padding.
        schedule: position -> factor on the strength (`positions.ramp`, `positions.fade`, or a function).
        attention_mask: 0 where the prompts are padded; padding is not touched.

    Raises:
        UserError: a zero or non-finite direction, strength or norm, a strength that must be a length, or a
            position outside the prompt.
        Failure: the hook never ran or changed nothing.
    """
    direction = torch.as_tensor(vector).detach()
    length = float(direction.double().norm())
    if direction.ndim != 1 or not np.isfinite(length) or length == 0:
        raise UserError(
            f"the steering direction at {site} has shape {tuple(direction.shape)} and norm {length}",
            expected="one vector (d_model,) that is not zero",
        )
    check_strength(strength, residual_norm, site)
    with push(
        model,
        {site: direction.double() * (strength * residual_norm / length)} if strength else {},
        positions,
        schedule=schedule,
        attention_mask=attention_mask,
    ):
        yield


@contextmanager
def push(
    model: Any,
    vectors: Mapping[str, Float[torch.Tensor, "*prompt d_model"]],
    positions: Positions = None,
    *,
    schedule: Schedule | None = None,
    attention_mask: Int[torch.Tensor, "prompt pos"] | None = None,
) -> Iterator[None]:
    """Adds vectors in residual units, at one or several sites.

    Args:
        model: any TransformerLens object.
        vectors: site -> vector `(d_model,)`, or one for every row of the batch `(prompt, d_model)`; none
            changes nothing.
        positions, schedule, attention_mask: as for `steer`.

    Raises:
        UserError: a vector of another width or number of rows than the activation, or a position outside the
            prompt.
        Failure: a hook never ran or changed nothing.
    """
    weights = {site: Weights(positions, schedule, attention_mask) for site in vectors}
    edits = {
        site: _edit(site, torch.as_tensor(vector).detach(), weights[site]) for site, vector in vectors.items()
    }
    with edited(model, edits, what="steer") if edits else nullcontext():
        yield
        for counted in weights.values():
            counted.check()


def check_strength(strength: float | int, residual_norm: float | int, site: str) -> None:
    """Makes sure that a strength is a fraction of the residual norm.

    Raises:
        UserError: it is not finite, or so large that it must be a length in residual units; the message
            converts it.
    """
    if not np.isfinite(strength) or not (np.isfinite(residual_norm) and residual_norm > 0):
        raise UserError(
            f"strength {strength} with residual norm {residual_norm}", expected="finite, and a norm above 0"
        )
    if abs(strength) > LARGEST_STRENGTH:
        raise UserError(
            f"strength {strength:g} at {site}",
            expected=f"a fraction of the mean residual norm, from {-LARGEST_STRENGTH:g} to "
            f"{LARGEST_STRENGTH:g}",
            cure=f"if it is a length in residual units, the strength is {strength / residual_norm:.3g} "
            f"(the mean norm there is {residual_norm:.4g})",
        )


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
