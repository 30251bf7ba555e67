"""Forward passes that keep what parts of a model hold, and forward-and-backward passes that also keep the
metric's gradient.

Gradients are taken with respect to the values themselves, inside the graph of one forward pass, so each hook
gets the total derivative of the metric. What an MLP reads is a tensor of its own (the stream also runs past
it), so it is caught at the entry of the MLP's module.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emocircuits.errors import Failure, UserError
from emocircuits.passes.anatomy import Anatomy, unsplit
from emocircuits.passes.hooks import hooked
from emocircuits.passes.last_block import read_at_last_position
from emocircuits.passes.metric import run_metric
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.task import Task
from emocircuits.passes.window import EVERYTHING, Window, within

MLP_INPUT, MLP_STREAM = "mlp.input", "mlp.stream"
Change = Callable[[Tensor], Tensor]
T = TypeVar("T")


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

    def rows(self, rows: slice | Int[Tensor, "row"]) -> "Pass":
        """The same of some of the prompts."""
        values, grads = (
            {name: value[rows] for name, value in part.items()} for part in (self.values, self.grads)
        )
        return Pass(values, grads, self.metric[rows])


@dataclass(frozen=True, eq=False)
class CleanCorrupt:
    """Both runs of one batch.

    Where prompts have a reference instead of a partner, `corrupt` holds the reference value of every hook,
    and the clean run is the live one.

    Attributes:
        batch: the prompts.
        clean, corrupt: what the hooks hold, and the metric.
        passes: forward and backward passes spent.
        ablated: whether nodes are compared with a reference, in the clean run.
    """

    batch: PairBatch
    clean: Pass
    corrupt: Pass
    passes: float = 2
    ablated: bool = False
    _derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def live(self) -> Pass:
        """The run that gradients are taken on and that patches go into."""
        return self.clean if self.ablated else self.corrupt

    @property
    def sign(self) -> int:
        """+1 where a patch brings the clean value in, -1 where it takes it out."""
        return -1 if self.ablated else 1

    def reversed(self) -> "CleanCorrupt":
        """The sides exchanged: changes go the other way, and patches into the clean run."""
        return CleanCorrupt(self.batch, self.corrupt, self.clean, self.passes)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What follows from both runs and is needed more than once."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def change(self, hook: str, window: Window = EVERYTHING) -> Tensor:
        """clean - corrupt of what a hook holds."""
        return within(self.clean.values[hook], window) - within(self.corrupt.values[hook], window)


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
    task: Task,
    tokens: Int[Tensor, "prompt pos"],
    index: Int[Tensor, "prompt"],
    taps: Iterable[str] = (),
    *,
    changes: Mapping[str, Change] | None = None,
    skip_unread: bool = False,
) -> Pass:
    """A forward pass.

    Args:
        task: the model and the metric.
        tokens: prompts.
        index: numbers of the prompts.
        taps: where to keep values.
        changes: hook name -> function that replaces what the hook holds.
        skip_unread: whether positions after the last attention that the metric does not read may be left out
            (see `differentiate`).
    """
    anatomy = task.anatomy
    last = task.reads_last(tokens.shape[1], index)
    short = read_at_last_position(anatomy, last and skip_unread)
    with tapped(anatomy, taps, changes or {}) as seen, short:
        value = run_metric(task.model, tokens, task.metric, index, last=last)
    return Pass({name: held.detach() for name, held in seen.items()}, {}, value)


def differentiate(
    task: Task,
    tokens: Int[Tensor, "prompt pos"],
    index: Int[Tensor, "prompt"],
    taps: Iterable[str],
    *,
    changes: Mapping[str, Change] | None = None,
    constants: Iterable[str] = (),
    start: str | None = None,
    unreached: str = "error",
    skip_unread: bool | None = None,
) -> Pass:
    """A forward and a backward pass.

    With `skip_unread`, and where the metric reads the last position alone, what the last block adds to the
    stream is computed there alone: its hooks hold zeros before it, as do the gradients, so that no effect is
    another one.

    Args:
        task: the model and the metric.
        tokens: prompts.
        index: numbers of the prompts.
        taps: where to keep values and gradients.
        changes: hook name -> function that replaces what the hook holds.
        constants: hooks whose values are kept without a gradient.
        start: the hook at which the gradient begins; nothing before it is differentiated. By default the
            stream before the first block.
        unreached: `error`, or `zero` where a tap that no gradient reaches is expected.
        skip_unread: whether positions after the last attention that the metric does not read are left out; by
            default where gradients begin at the embeddings.

    Raises:
        UserError: a metric that is not differentiable.
        Failure: a tap that no gradient reaches, NaN or infinity.
    """
    anatomy, changes = task.anatomy, dict(changes or {})
    begin = start or anatomy.embedding
    entry = changes.get(begin, lambda value: value)
    changes[begin] = lambda value: entry(value).detach().requires_grad_()
    constants = [name for name in constants if name not in set(taps)]
    last = task.reads_last(tokens.shape[1], index)
    short = read_at_last_position(anatomy, last and (start is None if skip_unread is None else skip_unread))
    with torch.enable_grad(), tapped(anatomy, [*taps, *constants], changes) as seen, short:
        value = run_metric(task.model, tokens, task.metric, index, last=last)
        refuse_constant(value)
        reached = {
            name: held
            for name, held in seen.items()
            if name not in constants and (held.requires_grad or unreached == "error")
        }
        slopes = torch.autograd.grad(value.sum(), list(reached.values()), allow_unused=True)
    by_name, grads = dict(zip(reached, slopes, strict=True)), {}
    for name, held in seen.items():
        if name in constants:
            continue
        grad = by_name.get(name)
        if grad is None and unreached == "zero":
            grad = torch.zeros_like(held)
        grads[name] = checked_gradient(grad, name)
    return Pass({name: held.detach() for name, held in seen.items()}, grads, value.detach())


def gradient(metric: Float[Tensor, "prompt"], at: Tensor, where: str) -> Tensor:
    """Gradient of the summed metric at one tensor of its graph.

    Args:
        metric: values of a metric inside the autograd graph.
        at: where the gradient is taken.
        where: its name, for messages.

    Raises:
        UserError: a metric that is not differentiable.
        Failure: no gradient reaches it, NaN or infinity.
    """
    refuse_constant(metric)
    (grad,) = torch.autograd.grad(metric.sum(), [at], allow_unused=True)
    return checked_gradient(grad, where)


def refuse_constant(metric: Float[Tensor, "prompt"]) -> None:
    """Raises UserError where a metric has no gradient."""
    if not metric.requires_grad:
        raise UserError(
            "the metric has no gradient with respect to the logits",
            expected="a differentiable function of the logits such as a logit difference",
            cure="do not use argmax, detach or a threshold in it",
        )


def checked_gradient(grad: Tensor | None, where: str) -> Tensor:
    """The gradient, where it is one.

    Raises:
        Failure: it is missing, NaN or infinite.
    """
    if grad is None:
        raise Failure(f"no gradient of the metric reaches {where}", cure="check the hook and the metric")
    # their sum says so in one pass; only a sum that overflows is looked into
    if not bool(torch.isfinite(grad.sum())) and not bool(torch.isfinite(grad).all()):
        raise Failure(
            f"the gradient of the metric at {where} is NaN or infinite",
            cure="check the metric and the model's precision",
        )
    return grad


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
            seen.setdefault(name, value)  # a block that is run once more in a backward pass changes nothing
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
