"""An attribution graph over the parts of a model: which nodes there are, which slots see which nodes, and
what one pass says.

Where every head and every MLP is a node, nothing but addition lies between parts, so the direct path from a
node to a slot is the identity, and all edges of a batch are one matrix product per reader:

    edge(u -> v) = sum over positions of < written(u) , seed(v) >    seed(v) summed over the points of a path

The edges that leave a node add up to its effect (to first order around the point where the gradients were
taken).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts import MLP, Embeddings, Features, Heads, Logits, Pair, Reader, Writer
from emocircuits.graphs.parts.seeds import Scratch, Seeds, Span
from emocircuits.graphs.parts.window import EVERYTHING, Window, behind, within
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.record import Pass

PIECE = 1 << 22  # numbers of what all nodes write that are worked on at a time
FEWEST = 64  # tokens, below which products are slow


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes, slots and which slot sees which node.

    Attributes:
        anatomy: the model.
        writers: in the order in which they write.
        readers: in the order in which they read.
    """

    anatomy: Anatomy
    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Ids of all nodes."""
        return tuple(node for writer in self.writers for node in writer.nodes)

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Ids of all slots."""
        return tuple(slot for reader in self.readers for slot in reader.slots)

    @cached_property
    def node_taps(self) -> tuple[str, ...]:
        """Hooks whose values and gradients the nodes' effects need."""
        return _union(writer.taps for writer in self.writers)

    @cached_property
    def taps(self) -> tuple[str, ...]:
        """Hooks whose values and gradients effects and edges need."""
        return _union([self.node_taps, *(reader.read_taps for reader in self.readers)])

    @cached_property
    def written_taps(self) -> tuple[str, ...]:
        """Hooks whose values on both runs say what the nodes write."""
        return _union([self.node_taps, *(writer.constants for writer in self.writers)])

    @cached_property
    def value_taps(self) -> tuple[str, ...]:
        """Hooks whose values are needed on both runs where slots are patched, too."""
        return _union([self.taps, self.written_taps])

    def seen_by(self, reader: Reader) -> slice:
        """Which of the nodes a reader sees: those that write before it reads, from the last dictionary on."""
        before = [writer for writer in self.writers if writer.writes_at < reader.reads_at]
        cuts = [place for place, writer in enumerate(before) if writer.cuts]
        hidden = sum(len(writer.nodes) for writer in before[: cuts[-1]]) if cuts else 0
        return slice(hidden, sum(len(writer.nodes) for writer in before))

    @cached_property
    def pairs(self) -> tuple[Int[np.ndarray, "edge"], Int[np.ndarray, "edge"]]:
        """Node and slot of every edge; slots in order, and for each slot the nodes it sees."""
        sources, targets, first = [], [], 0
        for reader in self.readers:
            seen, slots = np.arange(len(self.nodes))[self.seen_by(reader)], len(reader.slots)
            sources.append(np.tile(seen, slots))
            targets.append(np.repeat(np.arange(first, first + slots), len(seen)))
            first += slots
        return np.concatenate(sources), np.concatenate(targets)

    def writer_of(self, node: int) -> tuple[Writer, int]:
        """The writer of a node, and which of its nodes it is."""
        return _part_of(self.writers, lambda writer: writer.nodes, node)

    def reader_of(self, slot: int) -> tuple[Reader, int]:
        """The reader of a slot, and which of its slots it is."""
        return _part_of(self.readers, lambda reader: reader.slots, slot)

    def written(
        self,
        pair: Pair,
        window: Window = EVERYTHING,
        scratch: Scratch | None = None,
        begins: Sequence[int] | None = None,
    ) -> Float[Tensor, "some_prompts node some_pos d_model"]:
        """What the change of every node writes into the stream inside a window, to first order.

        Args:
            pair: both runs.
            window: prompts and positions.
            scratch: memory to use.
            begins: writer by writer the first position that is wanted; what stands before is not filled.
        """
        like = within(pair.live.values[self.anatomy.last], window)
        shape, first, like = (
            like.shape,
            0,
            like.new_empty(0, dtype=torch.promote_types(like.dtype, torch.float32)),
        )
        out = (scratch or Scratch()).take(like, len(self.nodes), *shape)
        for writer, begin in zip(self.writers, begins or [0] * len(self.writers), strict=True):
            part, skipped = behind(window, begin)
            if skipped < shape[1]:
                writer.write(pair, part, out[first : first + len(writer.nodes), :, skipped:])
            first += len(writer.nodes)
        return out.transpose(0, 1)

    def node_effects(self, pair: Pair, point: Pass) -> Float[Tensor, "prompt node"]:
        """Effects under the gradients of one pass."""
        return torch.cat([writer.effects(pair, point.grads) for writer in self.writers], dim=1)

    def seeds(self, point: Pass, weight: float = 1.0, onto: Sequence[Seeds] | None = None) -> list[Seeds]:
        """Gradients at what every reader's slots read under one pass, times a weight, added to those of other
        points.
        """
        found = [reader.seeds(point, weight) for reader in self.readers]
        return found if onto is None else [one.plus(new) for one, new in zip(onto, found, strict=True)]

    def edge_effects(self, pair: Pair, seeds: Sequence[Seeds]) -> Float[Tensor, "prompt edge"]:
        """Edges under the gradients of `seeds`, in the order of `pairs`."""
        n_prompts, length, width = pair.live.values[self.anatomy.last].shape
        most = max(FEWEST, PIECE // (width * len(self.nodes)))  # tokens at once
        rows, work, spans = max(1, most // length), (Scratch(), Scratch()), [seed.spans() for seed in seeds]
        begins = self._wanted_from(spans)
        return torch.cat(
            [
                sum(
                    self._edges_within(
                        pair,
                        seeds,
                        spans,
                        begins,
                        (slice(row, row + rows), slice(first, first + most)),
                        *work,
                    )
                    for first in range(0, length, most)
                )
                for row in range(0, n_prompts, rows)
            ]
        )

    def _edges_within(
        self,
        pair: Pair,
        seeds: Sequence[Seeds],
        spans: Sequence[Sequence[Span]],
        begins: Sequence[int],
        window: Window,
        *scratch: Scratch,
    ) -> Float[Tensor, "some_prompts edge"]:
        written, found = self.written(pair, window, scratch[0], begins), []
        for reader, seed, runs in zip(self.readers, seeds, spans, strict=True):
            seen = written[:, self.seen_by(reader)]
            for slots, begin in runs:
                part, skipped = behind(window, begin)
                read = seen[:, :, skipped:]
                at = scratch[1].take(read, slots.stop - slots.start, len(read), *read.shape[2:])
                seed.fill(slots, part, at)
                edges = read.flatten(2) @ at.flatten(2).permute(1, 2, 0)
                found.append(edges.transpose(1, 2).flatten(1))  # slot by slot
        return torch.cat(found, dim=1)

    def _wanted_from(self, spans: Sequence[Sequence[Span]]) -> list[int]:
        """Writer by writer the first position at which any slot that sees it has a gradient."""
        readers = [
            (reader.reads_at, min(begin for _, begin in runs))
            for reader, runs in zip(self.readers, spans, strict=True)
        ]
        return [min(begin for place, begin in readers if place > writer.writes_at) for writer in self.writers]


def component_graph(anatomy: Anatomy, features: Sequence[Features] = ()) -> Graph:
    """Embeddings, attention heads, MLPs and the logits, with the features and errors of some sites between
    them.
    """
    parts = [
        part
        for layer in anatomy.layers
        for part in (Heads(layer), *([MLP(layer)] if layer.mlp is not None else []))
    ]
    writers = sorted([Embeddings(anatomy), *parts, *features], key=lambda part: part.writes_at)
    readers = sorted([*parts, *features], key=lambda part: part.reads_at)
    return Graph(anatomy, tuple(writers), (*readers, Logits(anatomy)))


def _union(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _part_of(parts: Sequence, ids, number: int):
    for part in parts:
        if number < len(ids(part)):
            return part, number
        number -= len(ids(part))
    raise IndexError(number)
