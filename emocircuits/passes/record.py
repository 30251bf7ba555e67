"""Forward passes that keep what parts of a model hold, and forward-and-backward passes that also keep the
metric's gradient.

Gradients are taken with respect to the values themselves, inside the graph of one forward pass, so each hook
gets the total derivative of the metric. What an MLP reads is a tensor of its own (the stream also runs past
it), so it is caught at the entry of the MLP's module.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emocircuits.errors import Failure, UserError
from emocircuits.passes.anatomy import Anatomy, unsplit
from emocircuits.passes.hooks import hooked
from emocircuits.passes.last_block import last_position_behind_attention, unwatched
from emocircuits.passes.last_position import reads_last_position, run_metric
from emocircuits.passes.pairs import Metric

MLP_INPUT, MLP_STREAM = "mlp.input", "mlp.stream"
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over a batch.

    Attributes:
        values: hook name -> what it held.
        grads: hook name -> gradient of the summed metric; empty where only a forward pass was run.
        metric: the metric per prompt.
    """

    values: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    metric: Float[Tensor, "prompt"]


def mlp_input(layer: int) -> str:
    """Name under which the input of a block's MLP is kept."""
    return f"blocks.{layer}.{MLP_INPUT}"


def mlp_stream(layer: int) -> str:
    """Name under which what the norm before a block's MLP reads is kept, apart from the stream that runs past
    it.
    """
    return f"blocks.{layer}.{MLP_STREAM}"


@torch.no_grad()
def forward(
    anatomy: Anatomy,
    tokens: Int[Tensor, "prompt pos"],
    metric: Metric,
    index: Int[Tensor, "prompt"],
    taps: Iterable[str] = (),
    *,
    changes: Mapping[str, Change] | None = None,
    skip_unread: bool = False,
) -> Pass:
    """A forward pass.

    Args:
        anatomy: the model.
        tokens: prompts.
        metric: logits -> one value per prompt.
        index: numbers of the prompts.
        taps: where to keep values.
        changes: hook name -> function that replaces what the hook holds.
        skip_unread: whether positions behind the last attention that the metric does not read may be left out
            (see `differentiate`).
    """
    last = reads_last_position(anatomy.model, metric, tokens.shape[1], index)
    short = _short(anatomy, last and skip_unread)
    with tapped(anatomy, taps, changes or {}) as seen, short:
        value = run_metric(anatomy.model, tokens, metric, index, last=last)
    return Pass({name: held.detach() for name, held in seen.items()}, {}, value)


def differentiate(
    anatomy: Anatomy,
    tokens: Int[Tensor, "prompt pos"],
    metric: Metric,
    index: Int[Tensor, "prompt"],
    taps: Iterable[str],
    *,
    changes: Mapping[str, Change] | None = None,
    unreached: str = "error",
    constants: Iterable[str] = (),
) -> Pass:
    """A forward and a backward pass.

    Where the metric reads the last position alone, what the last block adds to the stream is computed there
    alone: its hooks hold zeros in front of it, as do the gradients, so that no effect is another one.

    Args:
        anatomy: the model.
        tokens: prompts.
        metric: logits -> one value per prompt.
        index: numbers of the prompts.
        taps: where to keep values and gradients.
        changes: hook name -> function that replaces what the hook holds.
        unreached: `error`, or `zero` where a tap that no gradient reaches is expected.
        constants: hooks whose values are kept without a gradient.

    Raises:
        UserError: a metric that is not differentiable.
        Failure: a tap that no gradient reaches, NaN or infinity.
    """
    changes = dict(changes or {})
    entry = changes.get(anatomy.embedding, lambda value: value)
    changes[anatomy.embedding] = lambda value: entry(value).detach().requires_grad_()
    constants = [name for name in constants if name not in set(taps)]
    last = reads_last_position(anatomy.model, metric, tokens.shape[1], index)
    short = _short(anatomy, last)
    with torch.enable_grad(), tapped(anatomy, [*taps, *constants], changes) as seen, short:
        value = run_metric(anatomy.model, tokens, metric, index, last=last)
        if not value.requires_grad:
            raise UserError(
                "the metric has no gradient with respect to the logits",
                expected="a differentiable function of the logits such as a logit difference",
                cure="do not use argmax, detach or a threshold in it",
            )
        reached = {
            name: held
            for name, held in seen.items()
            if name not in constants and (held.requires_grad or unreached == "error")
        }
        found = dict(
            zip(
                reached,
                torch.autograd.grad(value.sum(), list(reached.values()), allow_unused=True),
                strict=True,
            )
        )
    grads = {}
    for name, held in seen.items():
        if name in constants:
            continue
        grad = found.get(name)
        if grad is None and unreached == "error":
            raise Failure(f"no gradient of the metric reaches {name}", cure="check the hook and the metric")
        grads[name] = torch.zeros_like(held) if grad is None else grad
        if not finite(grads[name]):
            raise Failure(
                f"the gradient of the metric at {name} is NaN or infinite",
                cure="check the metric and the model's precision",
            )
    return Pass({name: held.detach() for name, held in seen.items()}, grads, value.detach())


def _short(anatomy: Anatomy, last: bool) -> AbstractContextManager[None]:
    """Leaves out what a metric of the last position does not read, unless others look there; to be made
    before hooks are set.
    """
    return last_position_behind_attention(anatomy) if last and unwatched(anatomy) else nullcontext()


@contextmanager
def tapped(
    anatomy: Anatomy, taps: Iterable[str], changes: Mapping[str, Change]
) -> Iterator[dict[str, Tensor]]:
    """Hooks on all taps and changes, gone afterwards whatever happens."""
    seen: dict[str, Tensor] = {}
    wanted = list(dict.fromkeys([*changes, *taps]))
    inside = [name for name in wanted if name.endswith((MLP_INPUT, MLP_STREAM))]

    def keep(name: str, value: Tensor) -> Tensor:
        change = changes.get(name)
        # a hook has to return its value: some hand out a view, and only what is returned lies on the way to
        # the logits
        value = value if change is None else change(value).to(value.dtype)
        if name in kept:
            seen[name] = value
        return value

    def module_hook(name: str) -> Callable[..., tuple[Tensor, ...]]:
        return lambda module, inputs: (keep(name, inputs[0].view_as(inputs[0])), *inputs[1:])

    kept = set(taps)
    hooks = [
        (name, lambda value, hook, name=name: keep(name, value)) for name in wanted if name not in inside
    ]
    handles = [_entered(anatomy, name).register_forward_pre_hook(module_hook(name)) for name in inside]
    try:
        with unsplit(anatomy.model), hooked(anatomy.model, anatomy.points, hooks):
            yield seen
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in wanted if name in kept and name not in seen]
    if missing:
        raise Failure(f"the hook {missing[0]} never ran", cure="check that the model has it")


def _entered(anatomy: Anatomy, name: str) -> nn.Module:
    layer = anatomy.layers[int(name.split(".")[1])]
    return layer.mlp_module if name.endswith(MLP_INPUT) else layer.mlp_norm


def finite(values: Tensor) -> bool:
    """Whether all values are finite; their sum says so in one pass, and only a sum that overflows is looked
    into.
    """
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
