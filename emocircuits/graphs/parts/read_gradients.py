"""Gradients at what the slots of a part read, added up over the points of a path, and the edges they make.

    edge(u -> v) = < written(u) , sum over points k of weight_k gradient_k(v) >

Many slots times a stream are the largest arrays of an attribution over components, so heads keep the narrow
gradients of their own projections and take the sum back to the stream once, however many points there were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.passes.window import Window

Span = tuple[slice, int]
"""Slots that stand next to one another, and a position before which the metric has no gradient at what they
read.
"""


@runtime_checkable
class ReadGradients(Protocol):
    """Gradients of the metric at what each slot of a reader reads."""

    def plus(self, other: "ReadGradients") -> "ReadGradients":
        """These and those of another point."""
        ...

    def spans(self) -> list[Span]:
        """All slots in runs, and the position where each run's gradients begin."""
        ...

    def fill(
        self, slots: slice, window: Window, out: Float[Tensor, "some_slots some_prompts some_pos d_model"]
    ) -> None:
        """Puts the gradients of one run of slots, or of all, inside a window into `out`."""
        ...


class Scratch:
    """Memory that is used again for every reader: fresh pages cost more than the products that fill them."""

    def __init__(self) -> None:
        self._buffer: Tensor | None = None

    def take(self, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor of this shape, of the type and device of another."""
        size = torch.Size(shape).numel()
        if (
            self._buffer is None
            or self._buffer.numel() < size
            or self._buffer.dtype != like.dtype
            or self._buffer.device != like.device
        ):
            self._buffer = like.new_empty(size)
        return self._buffer[:size].view(shape)


@dataclass(frozen=True, eq=False)
class StreamGradients:
    """Gradients of few slots, kept as they are.

    Attributes:
        values: the gradients.
    """

    values: Float[Tensor, "slot prompt pos d_model"]

    def plus(self, other: "StreamGradients") -> "StreamGradients":
        """See `ReadGradients`."""
        return StreamGradients(self.values + other.values)

    def spans(self) -> list[Span]:
        """See `ReadGradients`."""
        return [(slice(0, len(self.values)), _begins(self.values))]

    def fill(
        self, slots: slice, window: Window, out: Float[Tensor, "some_slots some_prompts some_pos d_model"]
    ) -> None:
        """See `ReadGradients`."""
        out.copy_(self.values[slots, *window])


@dataclass(frozen=True, eq=False)
class ProjectedGradients:
    """Gradients of projections that read a stream through one norm.

        gradient(v) = drawn(v) @ inward(v) - sum over points of pull(v) * unit

    Attributes:
        inward: (slots of one kind, the map from their projections' outputs back to the stream), kind by kind.
        drawn: gradients at the projections' outputs over the norm's scale, summed over points.
        pulls: point by point what the answering scale takes off, and the direction it takes it off along.
    """

    inward: Sequence[Float[Tensor, "_ d_head d_model"]]
    drawn: Sequence[Float[Tensor, "_ prompt pos d_head"]]
    pulls: Sequence[tuple[Float[Tensor, "slot prompt pos 1"], Float[Tensor, "prompt pos d_model"]]]

    def plus(self, other: "ProjectedGradients") -> "ProjectedGradients":
        """See `ReadGradients`."""
        drawn = [one + two for one, two in zip(self.drawn, other.drawn, strict=True)]
        return ProjectedGradients(self.inward, drawn, [*self.pulls, *other.pulls])

    def spans(self) -> list[Span]:
        """See `ReadGradients`; kinds of slots whose gradients begin at one place are one run."""
        found: list[Span] = []
        first = 0
        for drawn in self.drawn:
            last = first + len(drawn)
            begins = min(_begins(part) for part in (drawn, *(pull[first:last] for pull, _ in self.pulls)))
            if found and found[-1][1] == begins:
                first = found.pop()[0].start
            found.append((slice(first, last), begins))
            first = last
        return found

    def fill(
        self, slots: slice, window: Window, out: Float[Tensor, "some_slots some_prompts some_pos d_model"]
    ) -> None:
        """See `ReadGradients`."""
        first = 0
        for inward, drawn in zip(self.inward, self.drawn, strict=True):
            last = first + len(drawn)
            if slots.start <= first and last <= slots.stop:
                here = out[first - slots.start : last - slots.start]
                torch.bmm(drawn[:, *window].flatten(1, 2).to(out), inward.to(out), out=here.flatten(1, 2))
                for pull, unit in self.pulls:
                    here.addcmul_(pull[first:last, *window].to(out), unit[window].to(out), value=-1)
            first = last


def _begins(gradients: Float[Tensor, "slot prompt pos _"]) -> int:
    """The last position where there is nothing before, as after the last attention under most metrics; else
    the first.
    """
    last = gradients.shape[2] - 1
    return 0 if bool(gradients[:, :, last // 2].any()) or bool(gradients[:, :, :last].any()) else last
