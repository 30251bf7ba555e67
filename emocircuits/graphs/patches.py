"""Real patches of the nodes and edges of a graph, many side by side along the batch axis.

A node patched for real takes its clean value in the corrupt run, and everything behind it is computed anew.
An edge u -> v patched for real lets slot v alone read the corrupt stream plus what u's change writes: the
direct path, nothing else.

    effect = M(corrupt run with the patch) - M(corrupt run)

With `background` "clean" the patch goes the other way, into the clean run, and the effect is M(clean) -
M(clean run with the corrupt value): what is lost without the node or edge; so it is for prompts with a
baseline, whatever is asked for. The two differ where several causes have to come together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.graphs.components import Graph
from emocircuits.graphs.parts import Edit, Pair, Reader, Writer
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.passes.record import Pass, forward

NOTHING = 1e-6  # a change of this share of a value is rounding
BACKGROUNDS = ("corrupt", "clean")


@runtime_checkable
class _Job(Protocol):
    """Patches of one hook."""

    places: list[int]

    def edit(self, chosen: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit: ...

    def only(self, kept: list[int]) -> "_Job": ...


@dataclass(frozen=True, eq=False)
class _NodeJob:
    places: list[int]
    writer: Writer
    inside: Int[Tensor, "item"]
    source: Pass

    def edit(self, chosen: Tensor, prompts: Tensor) -> Edit:
        return self.writer.patch(self.source, self.inside[chosen], prompts)

    def only(self, kept: list[int]) -> "_NodeJob":
        return _NodeJob([self.places[i] for i in kept], self.writer, self.inside[kept], self.source)


@dataclass(frozen=True, eq=False)
class _EdgeJob:
    places: list[int]
    reader: Reader
    slots: Int[Tensor, "item"]
    nodes: Int[Tensor, "item"]
    graph: Graph
    base: Pass
    pair: Pair

    def edit(self, chosen: Tensor, prompts: Tensor) -> Edit:
        change = moved(self.graph, self.pair, self.nodes[chosen], prompts)
        return self.reader.patch_slots(self.base, self.slots[chosen], prompts, change)

    def only(self, kept: list[int]) -> "_EdgeJob":
        return _EdgeJob(
            [self.places[i] for i in kept],
            self.reader,
            self.slots[kept],
            self.nodes[kept],
            self.graph,
            self.base,
            self.pair,
        )


@dataclass
class Patcher:
    """Patches in one batch of prompt pairs.

    Attributes:
        graph: nodes and edges.
        chunk: the prompts.
        pair: both runs.
        metric: logits -> one value per prompt.
        max_tokens: tokens per pass.
        rows: how many prompts were run so far, over all patches.
    """

    graph: Graph
    chunk: PairBatch
    pair: Pair
    metric: Metric
    max_tokens: int
    rows: int = field(default=0, init=False)

    def nodes(self, nodes: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt node"]:
        """Effects of some nodes."""
        _, source, _ = self._sides(background)
        groups: dict[int, list[int]] = {}
        for place, node in enumerate(nodes):
            groups.setdefault(self.graph.writers.index(self.graph.writer_of(node)[0]), []).append(place)
        jobs = [
            _NodeJob(
                places,
                self.graph.writers[number],
                _ints(self.graph.writer_of(nodes[place])[1] for place in places),
                source,
            )
            for number, places in groups.items()
        ]
        return self._effects(jobs, len(nodes), background)

    def edges(
        self, edges: Sequence[tuple[int, int]], background: str = "corrupt"
    ) -> Float[Tensor, "prompt edge"]:
        """Effects of some edges, given as (node, slot)."""
        return self._effects(self._edge_jobs(edges, background), len(edges), background)

    def together(
        self, node: int, slots: Sequence[int], background: str = "corrupt"
    ) -> Float[Tensor, "prompt"]:
        """Effect when several slots of one reader read what a node's change writes."""
        base, _, pair = self._sides(background)
        found = []
        for rows in torch.arange(len(self.chunk), device=self.chunk.clean.device).split(self._block):
            change = moved(self.graph, pair, torch.full_like(rows, node), rows)
            edits: dict[str, list[Callable[[Tensor], Tensor]]] = {}
            for slot in slots:
                reader, inside = self.graph.reader_of(slot)
                hook, edit = reader.patch_slots(base, torch.full_like(rows, inside), rows, change)
                edits.setdefault(hook, []).append(edit)
            changes = {
                hook: lambda value, some=some: reduce(lambda held, step: step(held), some, value)
                for hook, some in edits.items()
            }
            found.append(self._effect(changes, rows, background))
        return torch.cat(found)

    @torch.no_grad()
    def busy(self, edges: Sequence[tuple[int, int]], background: str = "corrupt") -> Bool[Tensor, "edge"]:
        """Which edges let their slot read anything new on any prompt; the others have no effect, and no pass
        is needed to know.
        """
        base, _, _ = self._sides(background)
        found = torch.zeros(len(edges), dtype=torch.bool)
        prompts = torch.arange(len(self.chunk))
        for job in self._edge_jobs(edges, background):
            for first in range(0, len(job.places), max(1, self._block // len(prompts))):
                chosen = torch.arange(
                    first, min(first + max(1, self._block // len(prompts)), len(job.places))
                )
                hook, edit = job.edit(chosen.repeat_interleave(len(prompts)), prompts.repeat(len(chosen)))
                value = base.values[hook][prompts.repeat(len(chosen))]
                change = (edit(value) - value).abs().flatten(1).amax(1).view(len(chosen), -1).amax(1)
                found[[job.places[int(i)] for i in chosen]] = (change > NOTHING * value.abs().max()).cpu()
        return found

    def _edge_jobs(self, edges: Sequence[tuple[int, int]], background: str) -> list[_EdgeJob]:
        base, _, pair = self._sides(background)
        groups: dict[tuple[int, str], list[int]] = {}
        for place, (_, slot) in enumerate(edges):
            reader, inside = self.graph.reader_of(slot)
            groups.setdefault((self.graph.readers.index(reader), reader.hook_of(inside)), []).append(place)
        return [
            _EdgeJob(
                places,
                self.graph.readers[number],
                _ints(self.graph.reader_of(edges[place][1])[1] for place in places),
                _ints(edges[place][0] for place in places),
                self.graph,
                base,
                pair,
            )
            for (number, _), places in groups.items()
        ]

    def _sides(self, background: str) -> tuple[Pass, Pass, Pair]:
        """The run that is patched, the run the values come from, and the change between them as a pair of its
        own.
        """
        clean, corrupt = self.pair.clean, self.pair.corrupt
        if self.pair.ablated:
            return clean, corrupt, Pair(corrupt, clean)
        return (
            (corrupt, clean, self.pair) if background == "corrupt" else (clean, corrupt, Pair(corrupt, clean))
        )

    @property
    def _block(self) -> int:
        return max(1, self.max_tokens // self.chunk.clean.shape[1])

    def _effects(self, jobs: Sequence[_Job], count: int, background: str) -> Float[Tensor, "prompt item"]:
        found = self.pair.live.metric.new_zeros(len(self.chunk), count)
        for job in jobs:
            items = torch.arange(len(job.places)).repeat_interleave(len(self.chunk))
            prompts = torch.arange(len(self.chunk)).repeat(len(job.places))
            for first in range(0, len(items), self._block):
                now = slice(first, first + self._block)
                chosen, rows = (
                    items[now].to(self.chunk.clean.device),
                    prompts[now].to(self.chunk.clean.device),
                )
                with torch.no_grad():
                    hook, edit = job.edit(chosen, rows)
                columns = torch.tensor(job.places)[chosen.cpu()].to(found.device)
                found[rows, columns] = self._effect({hook: edit}, rows, background)
        return found

    def _effect(
        self, changes: Mapping[str, Callable[[Tensor], Tensor]], rows: Int[Tensor, "row"], background: str
    ) -> Float[Tensor, "row"]:
        base, _, _ = self._sides(background)
        incoming = background == "corrupt" and not self.pair.ablated
        tokens, index = (
            self.chunk.corrupt if incoming else self.chunk.clean,
            self.chunk.index[rows.to(self.chunk.index.device)],
        )
        run = forward(self.graph.anatomy, tokens[rows], self.metric, index, changes=changes)
        self.rows += len(rows)
        return (run.metric - base.metric[rows]) * (1.0 if incoming else -1.0)


def moved(
    graph: Graph, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
) -> Float[Tensor, "row pos d_model"]:
    """What one node's change on one prompt really writes into the stream, row by row."""
    like = pair.corrupt.values[graph.anatomy.last]
    out = torch.empty(len(nodes), *like.shape[1:], dtype=like.dtype, device=like.device)
    for node in nodes.unique():
        writer, inside = graph.writer_of(int(node))
        rows = (nodes == node).nonzero().squeeze(1)
        out[rows] = writer.moved(pair, torch.full_like(rows, inside), prompts[rows])
    return out


def _ints(values) -> Int[Tensor, "item"]:
    return torch.tensor(list(values), dtype=torch.long)
