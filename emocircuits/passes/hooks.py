"""Hooks set by the dozen: names are resolved once, where a bridge would look all of its aliases up for each
of them.

On a small model that look-up costs more than the forward pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from transformer_lens.hook_points import HookPoint

from emocircuits.errors import UserError

Hook = Callable[..., Any]


def hook_points(model: Any) -> dict[str, HookPoint]:
    """Every hook of a model by every name it answers to."""
    points = dict(model.hook_dict)
    for point in list(points.values()):
        if point.name:
            points.setdefault(point.name, point)
    return points


@contextmanager
def hooked(
    model: Any, points: Mapping[str, HookPoint], hooks: Sequence[tuple[str, Hook]], *, first: bool = False
) -> Iterator[None]:
    """Forward hooks for as long as the context lasts, as `model.hooks` sets them.

    Args:
        model: any TransformerLens object.
        points: what `hook_points` gave for it.
        hooks: pairs of a hook name and a function of (value, hook).
        first: whether they run before the hooks that are set already.

    Raises:
        UserError: the model has no hook of that name.
    """
    for name, _ in hooks:
        if name not in points:
            raise UserError(
                f"the model has no hook {name}",
                expected="a TransformerLens hook name such as blocks.2.hook_resid_post",
            )
    level = model.context_level + 1
    model.context_level = level
    try:
        for name, hook in hooks:
            points[name].add_hook(hook, level=level, prepend=first)
        yield
    finally:
        for name, _ in hooks:
            points[name].remove_hooks("fwd", level=level)
        model.context_level = level - 1
