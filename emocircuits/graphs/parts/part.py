"""What a part of a model is to a component graph: a writer of nodes into the residual stream, a reader with
slots, or both.

Everything between parts is addition, so an edge from node u into slot v is an inner product over positions
and coordinates,

    edge(u -> v) = < what u's change writes , gradient of the metric at what v reads >

and the gradient at what a slot reads is its own gradient taken back through its weights and its norm
(`read_gradients`). A node's effect is < its change, gradient of the metric at its own output >. Changes are
clean - corrupt.

While circuits run, rows of a pass are (circuit, prompt), circuit first, each slot reads a stream of its own,
and a change is what a node holds now minus its baseline.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts.read_gradients import ReadGradients
from emocircuits.passes.record import Change, CleanCorrupt, Pass
from emocircuits.passes.window import Window

Edit = tuple[str, Change]
"""A hook name, and what replaces the hook's value."""
Held = tuple[Tensor, ...]
"""What the nodes of one part hold: (embed, pos), (z of all heads,), (output of an MLP,) or (features, error);
or how much more than at baseline, with leading axes (circuit, prompt, pos)."""
Reads = Callable[[], tuple[Float[Tensor, "circuit kind prompt pos d_model"], list[int]]]
"""Gives the different streams that a part's slots read in each circuit, and which of them each slot reads."""

POSITIONS = "live positions"  # what a reference holds besides hooks


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

    def effects(self, sides: CleanCorrupt, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """Effect of every node under gradients at its taps."""
        ...

    def write(
        self, sides: CleanCorrupt, window: Window, out: Float[Tensor, "node prompt pos d_model"]
    ) -> None:
        """Fills `out` with what every node's change writes into the stream inside a window, to first
        order.
        """
        ...

    def moved(
        self, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """What one node's change on one prompt really writes into the stream, row by row."""
        ...

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """Gives one node per row the value it has in `source` on the row's prompt."""
        ...


@runtime_checkable
class CircuitPart(Protocol):
    """A writer whose nodes can be kept or taken out while circuits run; it keeps nothing between passes."""

    def held(self, run: Pass) -> Held:
        """What its nodes hold in a run, `(prompt, pos, …)` each."""
        ...

    def shift(self, held: Held, base: Held) -> Float[Tensor, "prompt pos d_model"]:
        """What all its nodes together put into the stream more at baseline than in a run."""
        ...

    def circuit_hooks(
        self, reads: Reads, base: Held, n_circuits: int, keep: Callable[[Held], None]
    ) -> Mapping[str, Change]:
        """Hook name -> function that gives the slots what they are to read; the last one hands the nodes'
        changes from the baseline to `keep`.
        """
        ...

    def mix(
        self, changes: Held, base: Held, kept: Float[Tensor, "circuit kind node"]
    ) -> Float[Tensor, "circuit kind prompt pos d_model"]:
        """What some of its nodes together put into the stream more than at baseline, for several choices of
        nodes.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """A part with slots that read the stream.

    Attributes:
        slots: their ids.
        read_taps: hooks whose values and gradients it needs; the first one holds the stream that it reads.
        reads_at: where in the order of computation: it sees the nodes that write before.
    """

    slots: tuple[str, ...]
    read_taps: tuple[str, ...]
    reads_at: float

    def read_gradients(self, sides: CleanCorrupt, point: Pass, weight: float) -> ReadGradients:
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
        (pulled,) = torch.autograd.grad(out, leaf, grads.to(out.dtype), is_grads_batched=True)
    return pulled


def weighted(
    kept: Float[Tensor, "circuit kind node"], written: Float[Tensor, "circuit node prompt pos d_model"]
) -> Float[Tensor, "circuit kind prompt pos d_model"]:
    """Sums over the nodes that are kept."""
    return torch.bmm(kept, written.flatten(2)).unflatten(2, written.shape[2:])


def by_circuit(value: Tensor, n_circuits: int) -> Tensor:
    """(circuit * prompt, …) -> (circuit, prompt, …)."""
    return value.unflatten(0, (n_circuits, -1))
