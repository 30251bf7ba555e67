"""Real patches of the nodes, slots and edges of a component graph, many side by side along the batch axis.

A node patched for real takes its clean value in the corrupt run, and everything after it is computed again.
An edge u -> v patched for real lets slot v alone read the corrupt stream plus what u's change writes: the
direct path, nothing else.

    effect = M(corrupt run with the patch) - M(corrupt run)

With `background` "clean" the patch goes the other way, into the clean run, and the effect is M(clean) -
M(clean run with the corrupt value): what is lost without the node or edge; so it is for prompts with a
reference, whatever is asked for. The two differ where several causes have to come together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.graphs.graph import PartsGraph
from emocircuits.graphs.parts import Edit
from emocircuits.names import parse_node
from emocircuits.passes.record import Change, CleanCorrupt, Pass, forward

NOTHING = 1e-6  # a change of this share of a value is rounding
UNCHANGED = 1e-9  # of the largest that any node writes
MakeEdit = Callable[[Int[Tensor, "row"], Int[Tensor, "row"]], Edit]
"""(which of a job's items, which prompts) -> the edit that patches them side by side."""


@dataclass(frozen=True, eq=False)
class _Job:
    """Patches of one hook.

    Attributes:
        columns: where in the answer its items stand.
        edit: makes the edit of some of them.
    """

    columns: list[int]
    edit: MakeEdit


@dataclass(frozen=True, eq=False)
class _Side:
    """One way to patch.

    Attributes:
        base: the run that is patched.
        source: the run that values come from.
        sides: the change between them as a pair of its own.
        tokens: prompts of the run that is patched.
        sign: of an effect, seen from the clean side.
    """

    base: Pass
    source: Pass
    sides: CleanCorrupt
    tokens: Int[Tensor, "prompt pos"]
    sign: float


@dataclass
class ComponentPatcher:
    """Patches in one batch of prompts; see `Patcher`.

    Attributes:
        graph: nodes and edges.
        sides: both runs.
        rows: how many prompts were run so far, over all patches.
    """

    graph: PartsGraph
    sides: CleanCorrupt
    rows: int = field(default=0, init=False)

    def nodes(self, nodes: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt node"]:
        """See `Patcher`."""
        side, jobs = self._side(background), []
        by_writer: dict[int, list[tuple[int, int]]] = {}
        for column, node in enumerate(nodes):
            writer, inside = self.graph.writer_of(node)
            by_writer.setdefault(self.graph.writers.index(writer), []).append((column, inside))
        for number, items in by_writer.items():
            columns, inside = zip(*items, strict=True)
            jobs.append(_Job(list(columns), self._node_edit(number, _ints(inside), side)))
        return self._effects(jobs, len(nodes), side)

    @torch.no_grad()
    def slots(self, slots: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt slot"]:
        """See `Patcher`; a head's query, key or value of the other run."""
        side, columns = self._side(background), []
        for slot in slots:
            reader, inside = self.graph.reader_of(slot)
            head = parse_node(self.graph.slots[slot]).head
            if head is None:
                (node,) = np.flatnonzero(self.graph.feeds()[slot])
                columns.append(self.nodes([int(node)], background)[:, 0])
                continue
            hook = reader.hook_of(inside)
            edit = _head_of(side.source.values[hook], head)
            run = forward(self.graph.task, side.tokens, self.sides.batch.index, changes={hook: edit})
            self.rows += len(side.tokens)
            columns.append(side.sign * (run.metric - side.base.metric))
        return torch.stack(columns, dim=1) if columns else side.base.metric.new_zeros(len(side.tokens), 0)

    def edges(
        self, edges: Sequence[tuple[int, int]], background: str = "corrupt"
    ) -> Float[Tensor, "prompt edge"]:
        """See `Patcher`."""
        side = self._side(background)
        return self._effects(self._edge_jobs(edges, side), len(edges), side)

    def together(
        self, node: int, slots: Sequence[int], background: str = "corrupt"
    ) -> Float[Tensor, "prompt"]:
        """See `Patcher`."""
        side, parts = self._side(background), []
        for rows in torch.arange(len(side.tokens), device=side.tokens.device).split(self._rows_at_once):
            change = moved(self.graph, side.sides, torch.full_like(rows, node), rows)
            edits: dict[str, list[Change]] = {}
            for slot in slots:
                reader, inside = self.graph.reader_of(slot)
                hook, edit = reader.patch_slots(side.base, torch.full_like(rows, inside), rows, change)
                edits.setdefault(hook, []).append(edit)
            parts.append(self._effect({hook: _chained(some) for hook, some in edits.items()}, rows, side))
        return torch.cat(parts)

    @torch.no_grad()
    def changed(self) -> Bool[np.ndarray, "node"]:
        """See `Patcher`."""
        written = self.graph.products.written(self.sides).abs().amax((0, 2, 3))
        return (written > UNCHANGED * written.max().clamp(min=1e-30)).numpy(force=True)

    @torch.no_grad()
    def busy(self, edges: Sequence[tuple[int, int]], background: str = "corrupt") -> Bool[np.ndarray, "edge"]:
        """See `Patcher`."""
        side, found = self._side(background), np.zeros(len(edges), dtype=bool)
        prompts = torch.arange(len(side.tokens))
        at_once = max(1, self._rows_at_once // len(prompts))
        for job in self._edge_jobs(edges, side):
            for chosen in torch.arange(len(job.columns)).split(at_once):
                rows = prompts.repeat(len(chosen))
                hook, edit = job.edit(chosen.repeat_interleave(len(prompts)), rows)
                value = side.base.values[hook][rows]
                change = (edit(value) - value).abs().flatten(1).amax(1).view(len(chosen), -1).amax(1)
                moves = (change > NOTHING * value.abs().max()).numpy(force=True)
                found[[job.columns[int(item)] for item in chosen]] = moves
        return found

    def _side(self, background: str) -> _Side:
        clean, corrupt, batch = self.sides.clean, self.sides.corrupt, self.sides.batch
        if background == "clean" or self.sides.ablated:
            return _Side(clean, corrupt, self.sides.once("reversed", self.sides.reversed), batch.clean, -1.0)
        return _Side(corrupt, clean, self.sides, batch.corrupt, 1.0)

    def _node_edit(self, writer: int, inside: Int[Tensor, "item"], side: _Side) -> MakeEdit:
        return lambda chosen, prompts: self.graph.writers[writer].patch(
            side.source, inside[chosen.cpu()].to(chosen.device), prompts
        )

    def _edge_jobs(self, edges: Sequence[tuple[int, int]], side: _Side) -> list[_Job]:
        by_hook: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
        for column, (node, slot) in enumerate(edges):
            reader, inside = self.graph.reader_of(slot)
            key = self.graph.readers.index(reader), reader.hook_of(inside)
            by_hook.setdefault(key, []).append((column, inside, node))
        jobs = []
        for (number, _), items in by_hook.items():
            columns, slots, nodes = zip(*items, strict=True)
            jobs.append(_Job(list(columns), self._edge_edit(number, _ints(slots), _ints(nodes), side)))
        return jobs

    def _edge_edit(
        self, reader: int, slots: Int[Tensor, "item"], nodes: Int[Tensor, "item"], side: _Side
    ) -> MakeEdit:
        def edit(chosen: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
            where, device = chosen.cpu(), chosen.device
            change = moved(self.graph, side.sides, nodes[where].to(device), prompts)
            return self.graph.readers[reader].patch_slots(side.base, slots[where].to(device), prompts, change)

        return edit

    @property
    def _rows_at_once(self) -> int:
        return max(1, self.graph.task.max_tokens // self.sides.batch.clean.shape[1])

    def _effects(self, jobs: Sequence[_Job], count: int, side: _Side) -> Float[Tensor, "prompt item"]:
        effects = side.base.metric.new_zeros(len(side.tokens), count)
        device = side.tokens.device
        for job in jobs:
            items = torch.arange(len(job.columns)).repeat_interleave(len(side.tokens))
            prompts = torch.arange(len(side.tokens)).repeat(len(job.columns))
            columns = torch.tensor(job.columns)
            for first in range(0, len(items), self._rows_at_once):
                now = slice(first, first + self._rows_at_once)
                chosen, rows = items[now].to(device), prompts[now].to(device)
                with torch.no_grad():
                    hook, edit = job.edit(chosen, rows)
                effects[rows, columns[items[now]].to(device)] = self._effect({hook: edit}, rows, side)
        return effects

    def _effect(
        self, changes: Mapping[str, Change], rows: Int[Tensor, "row"], side: _Side
    ) -> Float[Tensor, "row"]:
        index = self.sides.batch.index[rows.to(self.sides.batch.index.device)]
        run = forward(self.graph.task, side.tokens[rows], index, changes=changes)
        self.rows += len(rows)
        return side.sign * (run.metric - side.base.metric[rows])


def moved(
    graph: PartsGraph, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
) -> Float[Tensor, "row pos d_model"]:
    """What one node's change on one prompt really writes into the stream, row by row."""
    like = sides.corrupt.values[graph.task.anatomy.last]
    out = torch.empty(len(nodes), *like.shape[1:], dtype=like.dtype, device=like.device)
    for node in nodes.unique():
        writer, inside = graph.writer_of(int(node))
        rows = (nodes == node).nonzero().squeeze(1)
        out[rows] = writer.moved(sides, torch.full_like(rows, inside), prompts[rows]).to(out.dtype)
    return out


def _head_of(source: Tensor, head: int) -> Change:
    def edit(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, :, head] = source[:, :, head]
        return value

    return edit


def _chained(edits: Sequence[Change]) -> Change:
    def edit(value: Tensor) -> Tensor:
        for change in edits:
            value = change(value)
        return value

    return edit


def _ints(values: Iterable[int]) -> Int[Tensor, "item"]:
    return torch.tensor(list(values), dtype=torch.long)
