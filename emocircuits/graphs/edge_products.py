"""All direct edges of a batch as matrix products, in pieces that stay in the processor's cache.

    edge(u -> v) = < what u's change writes , gradient of the metric at what v reads >

What all nodes write and what all slots read are the largest arrays of an attribution, so both are filled
piece by piece into memory that is used again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.graphs.parts import Reader, Writer
from emocircuits.graphs.parts.read_gradients import ReadGradients, Scratch, Span
from emocircuits.passes.record import CleanCorrupt
from emocircuits.passes.window import EVERYTHING, Window, from_position, within

PIECE = 1 << 22  # numbers of what all nodes write that are worked on at a time
FEWEST = 64  # tokens, below which products are slow


@dataclass(frozen=True, eq=False)
class EdgeProducts:
    """What nodes write against what slots read.

    Attributes:
        writers: in the order in which they write.
        readers: in the order in which they read.
        seen: reader by reader, which of the nodes it sees.
        stream: a hook that holds a stream, for its shape.
    """

    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    seen: tuple[slice, ...]
    stream: str

    @property
    def n_nodes(self) -> int:
        """Nodes of all writers."""
        return sum(len(writer.nodes) for writer in self.writers)

    def written(
        self,
        sides: CleanCorrupt,
        window: Window = EVERYTHING,
        scratch: Scratch | None = None,
        begins: Sequence[int] | None = None,
    ) -> Float[Tensor, "some_prompts node some_pos d_model"]:
        """What the change of every node writes into the stream inside a window, to first order.

        Args:
            sides: both runs.
            window: prompts and positions.
            scratch: memory to use.
            begins: writer by writer the first position that is wanted; what stands before is not filled.
        """
        like = within(sides.live.values[self.stream], window)
        shape, first = like.shape, 0
        like = like.new_empty(0, dtype=torch.promote_types(like.dtype, torch.float32))
        out = (scratch or Scratch()).take(like, self.n_nodes, *shape)
        for writer, begin in zip(self.writers, begins or [0] * len(self.writers), strict=True):
            part, skipped = from_position(window, begin)
            if skipped < shape[1]:
                writer.write(sides, part, out[first : first + len(writer.nodes), :, skipped:])
            first += len(writer.nodes)
        return out.transpose(0, 1)

    def edges(self, sides: CleanCorrupt, gradients: Sequence[ReadGradients]) -> Float[Tensor, "prompt edge"]:
        """Edges under the gradients at what the slots read: slots in order, and for each slot the nodes it
        sees.
        """
        n_prompts, length, width = sides.live.values[self.stream].shape
        most = max(FEWEST, PIECE // (width * self.n_nodes))  # tokens at once
        rows, work = max(1, most // length), (Scratch(), Scratch())
        spans = [gradient.spans() for gradient in gradients]
        begins = self._wanted_from(spans)
        return torch.cat(
            [
                sum(
                    self._within(
                        sides,
                        gradients,
                        spans,
                        begins,
                        (slice(row, row + rows), slice(first, first + most)),
                        work,
                    )
                    for first in range(0, length, most)
                )
                for row in range(0, n_prompts, rows)
            ]
        )

    def _within(
        self,
        sides: CleanCorrupt,
        gradients: Sequence[ReadGradients],
        spans: Sequence[Sequence[Span]],
        begins: Sequence[int],
        window: Window,
        work: tuple[Scratch, Scratch],
    ) -> Float[Tensor, "some_prompts edge"]:
        written, parts = self.written(sides, window, work[0], begins), []
        for seen, gradient, runs in zip(self.seen, gradients, spans, strict=True):
            nodes = written[:, seen]
            for slots, begin in runs:
                part, skipped = from_position(window, begin)
                sources = nodes[:, :, skipped:]
                at = work[1].take(sources, slots.stop - slots.start, len(sources), *sources.shape[2:])
                gradient.fill(slots, part, at)
                edges = sources.flatten(2) @ at.flatten(2).permute(1, 2, 0)
                parts.append(edges.transpose(1, 2).flatten(1))  # slot by slot
        return torch.cat(parts, dim=1)

    def _wanted_from(self, spans: Sequence[Sequence[Span]]) -> list[int]:
        """Writer by writer the first position at which any slot that sees it has a gradient."""
        readers = [
            (reader.reads_at, min(begin for _, begin in runs))
            for reader, runs in zip(self.readers, spans, strict=True)
        ]
        return [min(begin for place, begin in readers if place > writer.writes_at) for writer in self.writers]
