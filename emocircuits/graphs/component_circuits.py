"""m(C) of a component or mixed circuit, for real: a set of edges stays, every other edge carries its
baseline.

    x_v = baseline stream of v + sum over edges (u -> v) in C of ( live u - baseline u )

Each slot v (a head's query, key or value, an MLP, a feature, the logits) reads its own x_v, so nodes are live
to the degree that their own edges are. With all edges the pass is the clean run; without any it is the
baseline, under `resample` the corrupt run. This is how MIB, EAP-IG and AutoCircuit ablate edges. A set of
nodes stands for all edges between them and into the logits.

Where the baseline is not the corrupt run its stream is put together node by node: the corrupt stream plus,
for every node before the slot, its baseline minus its corrupt value; biases that belong to no node stay. A
node none of whose edges are kept is computed from that stream. Many circuits run side by side along the batch
axis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emocircuits.errors import Failure, UserError
from emocircuits.graphs.graph import Choices, PartsGraph
from emocircuits.graphs.parts import CircuitPart
from emocircuits.graphs.parts.part import Held, Reads
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.gathered import as_array
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.record import Change, Pass, forward
from emocircuits.passes.task import Task
from emocircuits.progress import bar


@dataclass(frozen=True, eq=False)
class _Base:
    """The baseline of one batch.

    Attributes:
        nodes: per writer, what its nodes hold.
        streams: per reader, what a slot without edges reads.
    """

    nodes: tuple[Held, ...]
    streams: tuple[Float[Tensor, "prompt pos d_model"], ...]


@dataclass(frozen=True, eq=False)
class ComponentCircuits:
    """Runs circuits of a component graph on the prompts of a task; see `CircuitRunner`.

    Attributes:
        graph: nodes, slots and edges.
        task: the prompts and the metric.
        mean_over: prompts over whose corrupt sides means are taken; by default the task's.
    """

    graph: PartsGraph
    task: Task
    mean_over: PromptPairs | None = None

    def run(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"] | None = None,
        *,
        ablation: str = "resample",
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        """See `CircuitRunner`; features that are no nodes of the graph are live only where everything is."""
        at_errors = self.graph.errors
        kept = {"chosen": choices, "kept": choices | at_errors, "ablated": choices & ~at_errors}[errors]
        whole = kept.all(axis=1) & (np.zeros(len(kept), dtype=bool) if rest is None else rest)
        if not whole.any():
            return self.run_edges(kept, ablation)
        values = np.tile(self.clean_metric(), (len(kept), 1))
        if not whole.all():
            values[~whole] = self.run_edges(kept[~whole], ablation)
        return values

    @torch.no_grad()
    def run_edges(
        self, circuits: Bool[np.ndarray, "circuit edge"], ablation: str = "resample"
    ) -> Float[np.ndarray, "circuit prompt"]:
        """The metric when exactly these edges stay, prompts in the order of their index.

        Args:
            circuits: which edges stay, in the order of the graph's `pairs`.
            ablation: what all else is set to.
        """
        means = self._means if ABLATIONS.get(ablation).needs_mean else None
        room, values = self.graph.max_tokens, []
        with bar(len(circuits) * len(self.task.prompts), "circuits") as shown:
            for batch in self.task.batches(room):
                run = forward(self.task, batch.corrupt, batch.index, self._taps)
                base = self._base(run, ablation, means)
                at_once, parts = max(1, room // batch.clean.numel()), []
                for start in range(0, len(circuits), at_once):
                    parts.append(self._block(batch, circuits[start : start + at_once], base))
                    shown.update(parts[-1].numel())
                values.append(torch.cat(parts))
        return as_array(torch.cat(values, dim=1))[:, self._order]

    @torch.no_grad()
    def clean_metric(self) -> Float[np.ndarray, "prompt"]:
        """The metric on the clean prompts, in the order of their index."""
        values = [forward(self.task, batch.clean, batch.index).metric for batch in self.task.batches()]
        return as_array(torch.cat(values))[self._order]

    @property
    def _order(self) -> np.ndarray:
        return np.argsort(self.task.prompts.index, kind="stable")

    @cached_property
    def _parts(self) -> list[CircuitPart]:
        for writer in self.graph.writers:
            if not isinstance(writer, CircuitPart):
                raise UserError(
                    f"a circuit with the node {writer.nodes[0]}", expected="components, features and errors"
                )
        return list(self.graph.writers)

    @cached_property
    def _taps(self) -> tuple[str, ...]:
        taps = [tap for writer in self.graph.writers for tap in (*writer.taps, *writer.constants)]
        return tuple(dict.fromkeys([*taps, *(reader.read_taps[0] for reader in self.graph.readers)]))

    @cached_property
    def _ranges(self) -> list[range]:
        """Writer by writer the numbers of its nodes."""
        ends = np.cumsum([len(writer.nodes) for writer in self.graph.writers]).tolist()
        return [
            range(end - len(writer.nodes), end) for end, writer in zip(ends, self.graph.writers, strict=True)
        ]

    def _sees(self, reader: int, writer: int) -> bool:
        seen, own = self.graph.seen_by(self.graph.readers[reader]), self._ranges[writer]
        return seen.start <= own.start and own.stop <= seen.stop

    @cached_property
    def _means(self) -> list[Held]:
        """Per writer, the mean of what its nodes hold over corrupt prompts and positions."""
        task = self.task if self.mean_over is None else self.task.on(self.mean_over)
        sums: list[list[Tensor]] = [[] for _ in self._parts]
        for batch in task.batches():
            run = forward(task, batch.corrupt, batch.index, self._taps)
            for total, part in zip(sums, self._parts, strict=True):
                new = [value.sum((0, 1), keepdim=True) for value in part.held(run)]
                total[:] = [old + value for old, value in zip(total, new, strict=True)] if total else new
        return [tuple(value / task.prompts.n_tokens for value in total) for total in sums]

    def _base(self, corrupt: Pass, ablation: str, means: Sequence[Held] | None) -> _Base:
        """The baseline of a batch, from its corrupt run and the means of all nodes."""
        card = ABLATIONS.get(ablation)
        streams, nodes = [corrupt.values[reader.read_taps[0]] for reader in self.graph.readers], []
        for place, part in enumerate(self._parts):
            held = part.held(corrupt)
            wanted = card.values(held, means[place] if means else None)
            base = tuple(new.to(old).expand_as(old) for new, old in zip(wanted, held, strict=True))
            nodes.append(base)
            if all(new is old for new, old in zip(wanted, held, strict=True)):
                continue  # the corrupt run itself
            shift = part.shift(held, base)
            streams = [
                stream + shift if self._sees(number, place) else stream
                for number, stream in enumerate(streams)
            ]
        return _Base(tuple(nodes), tuple(streams))

    def _block(
        self, batch: PairBatch, circuits: Bool[np.ndarray, "circuit edge"], base: _Base
    ) -> Float[Tensor, "circuit prompt"]:
        """Circuits that run side by side."""
        n_circuits, readers = len(circuits), list(self.graph.readers)
        kept = base.streams[0].new_zeros(n_circuits, len(self.graph.nodes), len(self.graph.slots))
        sources, targets = (torch.from_numpy(ends) for ends in self.graph.pairs)
        kept[:, sources, targets] = torch.from_numpy(circuits).to(kept)
        changes: dict[int, Held] = {}
        first: dict[int, int] = {}
        for number in range(len(readers)):
            first[number] = sum(len(other.slots) for other in readers[:number])
        hooks: dict[str, Change] = {}
        for place, writer in enumerate(self.graph.writers):  # the embeddings read nothing, and come first
            if writer not in readers:
                own = self._parts[place].circuit_hooks(
                    _nothing, base.nodes[place], n_circuits, _into(changes, place)
                )
                _append(hooks, own)
        for number, reader in enumerate(readers):
            slots = kept[:, :, first[number] : first[number] + len(reader.slots)]
            reads = self._reader(number, slots, base, changes)
            if reader in self.graph.writers:
                place = self.graph.writers.index(reader)
                own = self._parts[place].circuit_hooks(
                    reads, base.nodes[place], n_circuits, _into(changes, place)
                )
            else:  # the logits
                own = {reader.read_taps[0]: _whole(reads)}
            _append(hooks, own)
        tokens, index = batch.clean.repeat(n_circuits, 1), batch.index.repeat(n_circuits)
        return forward(self.task, tokens, index, changes=hooks).metric.view(n_circuits, -1)

    def _reader(
        self,
        number: int,
        slots: Float[Tensor, "circuit node slot"],
        base: _Base,
        changes: Mapping[int, Held],
    ) -> Reads:
        def reads() -> tuple[Tensor, list[int]]:
            # slots with the same edges in every circuit read the same stream
            kinds, which = slots.permute(2, 0, 1).unique(dim=0, return_inverse=True)
            kinds = kinds.transpose(0, 1)
            stream = base.streams[number].expand(*kinds.shape[:2], *base.streams[number].shape)
            for place, nodes in enumerate(self._ranges):
                chosen = kinds[:, :, nodes.start : nodes.stop]
                if bool(chosen.any()):
                    stream = stream + self._parts[place].mix(changes[place], base.nodes[place], chosen)
            return stream, which.tolist()

        return reads


def _into(changes: dict[int, Held], place: int) -> Callable[[Held], None]:
    return lambda held: changes.__setitem__(place, held)


def _whole(reads: Reads) -> Change:
    return lambda value: reads()[0][:, 0].flatten(0, 1).to(value.dtype)


def _append(hooks: dict[str, Change], more: Mapping[str, Change]) -> None:
    """Adds functions; where a hook has one already, the new one comes after it."""
    for name, change in more.items():
        before = hooks.get(name)
        hooks[name] = change if before is None else _after(before, change)


def _after(before: Change, change: Change) -> Change:
    return lambda value: change(before(value))


def _nothing() -> tuple[Tensor, list[int]]:
    raise Failure("the embeddings were asked what they read")
