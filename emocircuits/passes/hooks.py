"""Forward hooks that are surely removed, and what they saw. Hooks are set here and nowhere else.

Names are resolved once, where a bridge would look all of its aliases up for each of them; on a small model
that look-up costs more than the forward pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from emocircuits.errors import Failure, UserError

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


@contextmanager
def recorded(
    model: Any,
    names: Iterable[str],
    *,
    optional: Iterable[str] = (),
    keep: Callable[[Tensor], Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """What hooks hold in the passes inside the context; a later pass replaces what an earlier one left.

        with recorded(model, [site]) as held:
            model(tokens)
        held[site]

    Args:
        model: any TransformerLens object.
        names: hooks; each of them must run.
        optional: hooks that the model may lack.
        keep: what of a value is kept, by default the value itself, detached.

    Raises:
        UserError: the model has no hook of a name.
        Failure: a hook never ran.
    """
    points, names, held = hook_points(model), list(names), {}

    def hook_of(name: str) -> Hook:
        def hook(value: Tensor, hook: Any = None) -> None:
            held[name] = value.detach() if keep is None else keep(value.detach())

        return hook

    known = dict.fromkeys([*names, *(name for name in optional if name in points)])
    with hooked(model, points, [(name, hook_of(name)) for name in known]):
        yield held
    missing = [name for name in names if name not in held]
    if missing:
        raise Failure(f"the hook {missing[0]} never ran", cure="check that the model has it")


@contextmanager
def output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module returns in each pass inside the context (of several values the first), in the autograd
    graph; for modules whose output no hook of the model gives as cheaply.
    """
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(
        lambda module, inputs, out: outputs.append(out[0] if isinstance(out, tuple) else out)
    )
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def told_before_passes(model: Any, tell: Callable[[int, Any], None]) -> Iterator[None]:
    """Inside, `tell` is called before every pass of a bridge with the number of positions that its key-value
    cache holds, and with its tokens (or None); of other models it is never called.
    """
    inner = getattr(model, "original_model", None)
    if inner is None:
        yield
        return

    def before(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        past, tokens = named.get("past_key_values"), named.get("input_ids", given[0] if given else None)
        tell(int(past.get_seq_length()) if hasattr(past, "get_seq_length") else 0, tokens)

    handle = inner.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
