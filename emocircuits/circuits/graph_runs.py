"""m(C) of a component or mixed circuit, for real: a set of edges stays, every other edge carries its
baseline.

    x_v = baseline stream of v + sum over edges (u -> v) in C of ( live u - baseline u )

Each slot v (a head's query, key or value, an MLP, a feature, the logits) reads its own x_v, so nodes are live
to the degree that their own edges are. With all edges the pass is the clean run; without any it is the
baseline, under `resample` the corrupt run. This is how MIB, EAP-IG and AutoCircuit ablate edges. A set of
nodes stands for all edges between them and into the logits.

Under `mean` and `zero` the baseline stream is put together node by node: the corrupt stream plus, for every
node before the slot, its baseline minus its corrupt value; biases that belong to no node stay. A node none of
whose edges are kept is computed from that stream. Many circuits run side by side along the batch axis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emocircuits.attribution.components import tokens_at_once
from emocircuits.circuits.live import LivePart, Values, live_part
from emocircuits.circuits.live.part import Change, Changes, Reads
from emocircuits.graphs.components import Graph
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks
from emocircuits.passes.record import Pass, forward
from emocircuits.progress import bar
from emocircuits.sae.dictionary import Dictionary


@dataclass(frozen=True, eq=False)
class Base:
    """The baseline of one batch.

    Attributes:
        nodes: per writer, what its nodes hold.
        streams: per reader, what a slot without edges reads.
    """

    nodes: tuple[Values, ...]
    streams: tuple[Float[Tensor, "prompt pos d_model"], ...]


@dataclass(frozen=True, eq=False)
class GraphRuns:
    """Runs circuits of one graph.

    Attributes:
        graph: nodes and slots.
        dictionaries: site -> dictionary, of the sites whose features are nodes.
        max_tokens: tokens per pass.
    """

    graph: Graph
    dictionaries: Mapping[str, Dictionary]
    max_tokens: int = DEFAULT_MAX_TOKENS

    @torch.no_grad()
    def metric(
        self,
        batches: Sequence[PairBatch],
        metric: Metric,
        circuits: Bool[np.ndarray, "circuit edge"],
        ablation: str = "resample",
        *,
        mean_over: Sequence[PairBatch] | None = None,
    ) -> Float[np.ndarray, "circuit prompt"]:
        """The metric under each circuit, prompts in the order of their index.

        Args:
            batches: prompt pairs, grouped by length.
            metric: logits -> one value per prompt.
            circuits: which edges stay, in the order of `graph.pairs`.
            ablation: `resample`, `mean` or `zero`.
            mean_over: prompts over whose corrupt sides `mean` averages; by default `batches`.
        """
        card = ABLATIONS.get(ablation)
        fixed = self._means(batches if mean_over is None else mean_over, metric) if card.needs_mean else None
        order, done = np.argsort(all_indices(batches), kind="stable"), []
        room = tokens_at_once(self.graph, self.max_tokens)
        with bar(len(circuits) * len(order), "circuits") as shown:
            for chunk in chunks(batches, room):
                base = self.base(
                    forward(self.graph.anatomy, chunk.corrupt, metric, chunk.index, self._taps),
                    ablation,
                    fixed,
                )
                block = max(1, room // chunk.clean.numel())
                parts = []
                for start in range(0, len(circuits), block):
                    parts.append(self._block(chunk, metric, circuits[start : start + block], base))
                    shown.update(parts[-1].numel())
                done.append(torch.cat(parts))
        return torch.cat(done, dim=1).numpy(force=True)[:, order]

    @torch.no_grad()
    def clean_metric(self, batches: Sequence[PairBatch], metric: Metric) -> Float[np.ndarray, "prompt"]:
        """The metric on the clean prompts, in the order of their index."""
        order = np.argsort(all_indices(batches), kind="stable")
        values = [
            forward(self.graph.anatomy, chunk.clean, metric, chunk.index).metric
            for chunk in chunks(batches, self.max_tokens)
        ]
        return torch.cat(values).numpy(force=True)[order]

    def base(self, corrupt: Pass, ablation: str, fixed: Sequence[Values] | None = None) -> Base:
        """The baseline of a batch, from its corrupt run and, for `mean`, the means of all nodes."""
        live = [part.values(corrupt) for part in self._parts]
        streams = [corrupt.values[reader.read_taps[0]] for reader in self.graph.readers]
        if ablation == "resample":
            return Base(tuple(live), tuple(streams))
        nodes = []
        for place, (part, values) in enumerate(zip(self._parts, live, strict=True)):
            wanted = fixed[place] if fixed else [value.new_zeros(()) for value in values]
            nodes.append(
                tuple(new.to(value).expand_as(value) for new, value in zip(wanted, values, strict=True))
            )
            shift = part.shift(values, nodes[-1])
            streams = [
                stream + shift if self._sees(number, place) else stream
                for number, stream in enumerate(streams)
            ]
        return Base(tuple(nodes), tuple(streams))

    @cached_property
    def _parts(self) -> list[LivePart]:
        return [live_part(writer, self.graph.anatomy, self.dictionaries) for writer in self.graph.writers]

    @cached_property
    def _taps(self) -> tuple[str, ...]:
        streams = (reader.read_taps[0] for reader in self.graph.readers)
        return tuple(dict.fromkeys([*(tap for part in self._parts for tap in part.taps), *streams]))

    @cached_property
    def _ranges(self) -> list[range]:
        ends = np.cumsum([len(writer.nodes) for writer in self.graph.writers]).tolist()
        return [
            range(end - len(writer.nodes), end) for end, writer in zip(ends, self.graph.writers, strict=True)
        ]

    def _sees(self, number: int, place: int) -> bool:
        seen, own = self.graph.seen_by(self.graph.readers[number]), self._ranges[place]
        return seen.start <= own.start and own.stop <= seen.stop

    def _means(self, batches: Sequence[PairBatch], metric: Metric) -> list[Values]:
        """Per writer, the mean of what its nodes hold over corrupt prompts and positions."""
        sums: list[list[Tensor]] = [[] for _ in self._parts]
        for chunk in chunks(batches, self.max_tokens):
            run = forward(self.graph.anatomy, chunk.corrupt, metric, chunk.index, self._taps)
            for total, part in zip(sums, self._parts, strict=True):
                found = [value.sum((0, 1)) for value in part.values(run)]
                total[:] = [old + new for old, new in zip(total, found, strict=True)] if total else found
        count = sum(batch.corrupt.numel() for batch in batches)
        return [tuple(value / count for value in total) for total in sums]

    def _block(
        self, chunk: PairBatch, metric: Metric, circuits: Bool[np.ndarray, "circuit edge"], base: Base
    ) -> Tensor:
        """Metric (circuit, prompt) of circuits that run side by side."""
        n_circuits, sources_targets = len(circuits), self.graph.pairs
        kept = base.streams[0].new_zeros(n_circuits, len(self.graph.nodes), len(self.graph.slots))
        sources, targets = (torch.from_numpy(ends) for ends in sources_targets)
        kept[:, sources, targets] = torch.from_numpy(circuits).to(kept)
        changes: dict[int, Changes] = {}
        hooks: dict[str, Change] = {}
        first = 0
        for number, reader in enumerate(self.graph.readers):
            slots = kept[:, :, first : first + len(reader.slots)]
            first += len(reader.slots)
            reads = self._reader(number, slots, base, changes)
            if reader in self.graph.writers:
                place = self.graph.writers.index(reader)
                found = self._parts[place].hooks(reads, base.nodes[place], n_circuits, _into(changes, place))
            else:  # the logits
                found = {
                    reader.read_taps[0]: lambda value, reads=reads: (
                        reads()[0][:, 0].flatten(0, 1).to(value.dtype)
                    )
                }
            _behind(hooks, found)
        start: dict[str, Change] = {}
        for place, writer in enumerate(self.graph.writers):
            if writer not in self.graph.readers:  # the embeddings
                _behind(
                    start,
                    self._parts[place].hooks(_nothing, base.nodes[place], n_circuits, _into(changes, place)),
                )
        _behind(start, hooks)
        run = forward(
            self.graph.anatomy,
            chunk.clean.repeat(n_circuits, 1),
            metric,
            chunk.index.repeat(n_circuits),
            changes=start,
        )
        return run.metric.view(n_circuits, -1)

    def _reader(
        self,
        number: int,
        slots: Float[Tensor, "circuit node slot"],
        base: Base,
        changes: Mapping[int, Changes],
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


def _into(changes: dict[int, Changes], place: int) -> Callable[[Changes], None]:
    return lambda found: changes.__setitem__(place, found)


def _behind(hooks: dict[str, Change], more: Mapping[str, Change]) -> None:
    """Adds functions; where a hook has one already, the new one comes behind it."""
    for name, change in more.items():
        before = hooks.get(name)
        hooks[name] = (
            change if before is None else lambda value, before=before, change=change: change(before(value))
        )


def _nothing() -> tuple[Tensor, list[int]]:
    raise AssertionError("embeddings read nothing")
