"""Push the residual stream along a direction while the model runs.

    x  <-  x + strength * residual_norm * v / ||v||

`strength` is a fraction of the mean residual norm at the site (Sofroniew et al. 2026), so it means the same in every model.
Positive strength pushes towards the direction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch

from emocircuits.errors import UserError
from emocircuits.interventions.hooks import edited

Positions = Literal["all"] | slice | Sequence[int] | None


@contextmanager
def steer(
    model: Any,
    site: str,
    vector: torch.Tensor | np.ndarray,
    strength: float,
    residual_norm: float,
    positions: Positions = None,
) -> Iterator[None]:
    """Adds a direction at a site in every forward pass inside the context.

    Works with and without a key-value cache: a pass over one token after an earlier pass is taken as the next position, any
    longer pass as a new prompt from position 0.

    Args:
        model: any TransformerLens object.
        site: hook name.
        vector: direction `(d_model,)`; its length does not matter.
        strength: fraction of `residual_norm`; 0 changes nothing.
        residual_norm: mean norm of the residual stream at the site.
        positions: None or "all"; a slice such as `slice(12, None)` (from position 12 on); or a list of positions.

    Raises:
        UserError: a zero or non-finite direction, strength or norm.
        Failure: the hook never ran or changed nothing.
    """
    direction = torch.as_tensor(vector).detach()
    length = float(direction.double().norm())
    if direction.ndim != 1 or not np.isfinite(length) or length == 0:
        raise UserError(f"the steering direction at {site} has shape {tuple(direction.shape)} and norm {length}",
                        expected="one vector (d_model,) that is not zero")
    if not np.isfinite(strength) or not residual_norm > 0:
        raise UserError(f"strength {strength} with residual norm {residual_norm}", expected="finite, and a norm above 0")
    push = direction.double() * (strength * residual_norm / length)
    seen = 0

    def edit(x: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        if x.shape[-1] != len(push):
            raise UserError(f"the steering direction has {len(push)} entries", expected=f"d_model {x.shape[-1]}")
        start = seen if x.shape[1] == 1 and seen else 0
        seen = start + x.shape[1]
        mask = torch.from_numpy(_chosen(positions, start, seen)).to(x.device)
        return x + mask[None, :, None] * push.to(x)

    # a list of positions may lie outside a cached single-token pass, so only the whole context must have changed something
    context = edited(model, {site: edit}, what="steer") if strength else nullcontext()
    with context:
        yield


def _chosen(positions: Positions, start: int, stop: int) -> np.ndarray:
    """Which of the positions start..stop-1 are steered."""
    if positions is None or isinstance(positions, str):
        if positions not in (None, "all"):
            raise UserError(f"positions '{positions}'", expected="'all', a slice or a list of positions")
        return np.ones(stop - start, dtype=bool)
    if isinstance(positions, slice):
        if (positions.start or 0) < 0 or (positions.stop or 0) < 0:
            raise UserError(f"positions {positions}", expected="positions counted from the front")
        return np.isin(np.arange(start, stop), np.arange(stop)[positions])
    return np.isin(np.arange(start, stop), np.asarray(list(positions)))
