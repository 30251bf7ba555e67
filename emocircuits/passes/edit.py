"""The one way this package edits a running model: hooks that are always removed and that prove they ran.

A hook can silently do nothing (a misspelt site, a model part that is skipped, a value of an unexpected type),
and a null effect would then be reported as a finding. So a context that ends without error checks that each
of its hooks was called and, where the edit is not empty, that it changed the activation.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from emocircuits.errors import Failure
from emocircuits.passes.hooks import hook_points, hooked

Change = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def edited(model: Any, edits: Mapping[str, Change], *, what: str, must_change: bool = True) -> Iterator[None]:
    """Applies `edits` at their sites in every forward pass inside the context.

    Args:
        model: any TransformerLens object (`TransformerBridge`, `HookedTransformer`).
        edits: site -> function from the activation `(prompt, pos, d_model)` to its new value of the same
            shape.
        what: name of the intervention, for error messages.
        must_change: whether an activation that stays as it was is an error.

    Raises:
        UserError: the model has no such site.
        Failure: a hook never ran, got something that is no tensor, changed the shape, or changed nothing.
    """
    ran = dict.fromkeys(edits, False)
    changed = dict.fromkeys(edits, False)

    def hook_for(site: str, edit: Change) -> Callable[..., torch.Tensor]:
        def hook(value: torch.Tensor, hook: Any = None) -> torch.Tensor:
            if not isinstance(value, torch.Tensor):
                raise Failure(
                    f"{what}: the activation at {site} is a {type(value).__name__}", expected="a tensor"
                )
            result = edit(value)
            if result.shape != value.shape:
                raise Failure(
                    f"{what}: the edit at {site} returned shape {tuple(result.shape)}",
                    expected=f"{tuple(value.shape)}",
                )
            ran[site] = True
            if must_change and not changed[site]:
                changed[site] = not torch.equal(result.detach(), value.detach())
            return result.to(value.dtype)

        return hook

    with hooked(model, hook_points(model), [(site, hook_for(site, edit)) for site, edit in edits.items()]):
        yield
    for site in edits:
        if not ran[site]:
            raise Failure(
                f"{what}: the hook at {site} never ran",
                expected="a forward pass through it inside the context",
                cure="check that the model has this site and was run",
            )
        if must_change and not changed[site]:
            raise Failure(
                f"{what}: the hook at {site} ran and changed nothing",
                cure="check the strength and the positions",
            )
