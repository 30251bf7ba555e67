"""What a part of a graph does while circuits run: what its nodes hold, what their live changes write, what
its slots make of it.

Rows of a pass are (circuit, prompt), circuit first. A change is live - baseline.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.passes.record import Pass

Values = tuple[Tensor, ...]
"""What the nodes of one part hold: (embed, pos), (z of all heads,), (output of an MLP,) or (features, error).
"""
Change = Callable[[Tensor], Tensor]
Reads = Callable[[], tuple[Float[Tensor, "circuit kind prompt pos d_model"], list[int]]]
"""Gives the different streams that a part's slots read in each circuit, and which of them each slot reads."""
Changes = tuple[Tensor, ...]
"""Live - baseline of what the nodes of one part hold, each with leading axes (circuit, prompt, pos)."""


@runtime_checkable
class LivePart(Protocol):
    """A part of a graph in a pass of circuits; it keeps nothing between passes.

    Attributes:
        taps: hooks whose values on clean and corrupt prompts it needs.
    """

    taps: tuple[str, ...]

    def values(self, run: Pass) -> Values:
        """What its nodes hold in a run."""
        ...

    def shift(self, live: Values, base: Values) -> Float[Tensor, "prompt pos d_model"]:
        """baseline - live of what all its nodes together put into the stream."""
        ...

    def hooks(
        self, reads: Reads, base: Values, n_circuits: int, keep: Callable[[Changes], None]
    ) -> Mapping[str, Change]:
        """Hook name -> function that gives the slots what they are to read; the last one hands the nodes'
        changes to `keep`.
        """
        ...

    def mix(
        self, changes: Changes, base: Values, kept: Float[Tensor, "circuit kind node"]
    ) -> Float[Tensor, "circuit kind prompt pos d_model"]:
        """What some of its nodes together put into the stream more than at baseline, for several choices of
        nodes.
        """
        ...


def weighted(
    kept: Float[Tensor, "circuit kind node"], written: Float[Tensor, "circuit node prompt pos d_model"]
) -> Float[Tensor, "circuit kind prompt pos d_model"]:
    """Sums over the nodes that are kept."""
    return torch.bmm(kept, written.flatten(2)).unflatten(2, written.shape[2:])


def by_circuit(value: Tensor, n_circuits: int) -> Tensor:
    """(circuit * prompt, …) -> (circuit, prompt, …)."""
    return value.unflatten(0, (n_circuits, -1))
