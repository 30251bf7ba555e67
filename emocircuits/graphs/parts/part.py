"""What a part of a model is to an attribution graph: a writer of nodes into the residual stream, a reader
with slots, or both.

Everything between parts is addition, so an edge from node u into slot v is an inner product over positions
and coordinates,

    edge(u -> v) = < what u's change writes , gradient of the metric at what v reads >

and the gradient at what a slot reads is its own gradient taken back through its weights and its norm
(`seeds`). A node's effect is < its change, gradient of the metric at its own output >. Changes are clean -
corrupt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.seeds import Seeds
from emocircuits.graphs.parts.window import EVERYTHING, Window, within
from emocircuits.passes.record import Pass

Edit = tuple[str, Callable[[Tensor], Tensor]]
"""A hook name, and what replaces the hook's value."""


FEATURES, ERROR, POSITIONS = ".features", ".error", "live positions"  # what a baseline holds besides hooks


@dataclass(frozen=True, eq=False)
class Pair:
    """Forward passes of one batch on the clean and the corrupt prompts.

    Where prompts have a baseline instead, `corrupt` holds the baseline of every hook, and the clean run is
    the live one.

    Attributes:
        clean, corrupt: what the hooks hold.
        ablated: whether `corrupt` is a baseline.
    """

    clean: Pass
    corrupt: Pass
    ablated: bool = False

    @property
    def live(self) -> Pass:
        """The run that gradients are taken on and that patches go into."""
        return self.clean if self.ablated else self.corrupt

    def change(self, hook: str, window: Window = EVERYTHING) -> Tensor:
        """clean - corrupt of what a hook holds."""
        return within(self.clean.values[hook], window) - within(self.corrupt.values[hook], window)


@runtime_checkable
class Writer(Protocol):
    """A part whose nodes write into the stream.

    Attributes:
        nodes: their ids.
        taps: hooks whose values on both runs, and gradients, it needs.
        constants: hooks whose values it needs and no gradient reaches.
        writes_at: where in the order of computation.
        cuts: whether nothing passes by it: a dictionary whose features and error are the whole stream.
    """

    nodes: tuple[str, ...]
    taps: tuple[str, ...]
    constants: tuple[str, ...]
    writes_at: float
    cuts: bool

    def effects(self, pair: Pair, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """Effect of every node under gradients at its taps."""
        ...

    def write(self, pair: Pair, window: Window, out: Float[Tensor, "node prompt pos d_model"]) -> None:
        """Fills `out` with what every node's change writes into the stream inside a window, to
        first order.
        """
        ...

    def moved(
        self, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """What one node's change on one prompt really writes into the stream, row by row."""
        ...

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """Gives one node per row the value it has in `source` on the row's prompt."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A part with slots that read the stream.

    Attributes:
        slots: their ids.
        read_taps: hooks whose values and gradients it needs.
        reads_at: where in the order of computation: it sees the nodes that write before.
    """

    slots: tuple[str, ...]
    read_taps: tuple[str, ...]
    reads_at: float

    def seeds(self, point: Pass, weight: float) -> Seeds:
        """Gradient of the metric at what each slot reads from the stream, times a weight."""
        ...

    def hook_of(self, slot: int) -> str:
        """The hook at which a slot is patched; slots of one hook can be patched in one batch."""
        ...

    def patch_slots(
        self,
        base: Pass,
        slots: Int[Tensor, "row"],
        prompts: Int[Tensor, "row"],
        change: Float[Tensor, "row pos d_model"],
    ) -> Edit:
        """Lets one slot per row read the stream of run `base` plus a change; all slots of one hook."""
        ...


def through_norm(
    norm: Callable[[Tensor], Tensor],
    x: Float[Tensor, "prompt pos d_model"],
    grads: Float[Tensor, "slot prompt pos d_model"],
) -> Float[Tensor, "slot prompt pos d_model"]:
    """Gradients at the output of a norm taken back to its input x."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        out = norm(leaf)
        if out is leaf:
            return grads
        (found,) = torch.autograd.grad(out, leaf, grads.to(out.dtype), is_grads_batched=True)
    return found
