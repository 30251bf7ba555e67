"""Put another value into the residual stream at a site: add a difference, or replace the stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float

from emocircuits.errors import UserError
from emocircuits.passes.edit import edited


@contextmanager
def add(model: Any, site: str, delta: Float[torch.Tensor, "prompt pos d_model"]) -> Iterator[None]:
    """Adds `delta` to the activation at `site`, row by row.

    Args:
        model: any TransformerLens object.
        site: hook name.
        delta: what to add; an all-zero difference is allowed and changes nothing.

    Raises:
        UserError: the batch that runs has another shape.
        Failure: the hook never ran or changed nothing.
    """

    def edit(x: torch.Tensor) -> torch.Tensor:
        _same_shape(x, delta, site)
        return x + delta.to(x.dtype)

    with edited(model, {site: edit}, what="patch", must_change=bool((delta != 0).any())):
        yield


@contextmanager
def replace(model: Any, site: str, value: Float[torch.Tensor, "prompt pos d_model"]) -> Iterator[None]:
    """Replaces the activation at `site` by `value`.

    Raises:
        UserError: the batch that runs has another shape.
        Failure: the hook never ran.
    """

    def edit(x: torch.Tensor) -> torch.Tensor:
        _same_shape(x, value, site)
        return value.to(x.dtype)

    with edited(model, {site: edit}, what="patch", must_change=False):
        yield


def _same_shape(x: torch.Tensor, given: torch.Tensor, site: str) -> None:
    if x.shape != given.shape:
        raise UserError(
            f"the patch for {site} has shape {tuple(given.shape)}",
            expected=f"the activation's {tuple(x.shape)} (prompt, pos, d_model)",
        )
