"""The graph of a model's components: embeddings, attention heads, MLPs and the logits, with the features and
errors of some sites among them.

Where every head and every MLP is a node, nothing but addition lies between parts, so the direct path from a
node to a slot is the identity, and all edges of a batch are one matrix product per reader:

    edge(u -> v) = sum over positions of < written(u) , gradient(v) >,  gradient(v) summed over path points

The edges that leave a node add up to its effect (to first order around the point where the gradients were
taken).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.component_circuits import ComponentCircuits
from emocircuits.graphs.component_patches import ComponentPatcher
from emocircuits.graphs.component_sides import (
    component_references,
    differentiated_sides,
    plain_sides,
    reference_sides,
    tokens_at_once,
    with_reference_metric,
)
from emocircuits.graphs.edge_products import EdgeProducts
from emocircuits.graphs.graph import chosen_among
from emocircuits.graphs.order import greedy_order
from emocircuits.graphs.parts import MLP, Embeddings, Features, Heads, Logits, Reader, Writer
from emocircuits.graphs.parts.read_gradients import ReadGradients
from emocircuits.graphs.reference_values import ReferenceValues
from emocircuits.names import TARGET, nodes_of_slot, parse_node
from emocircuits.passes.prompt_pairs import PairBatch, Reference
from emocircuits.passes.record import CleanCorrupt, Pass, differentiate
from emocircuits.passes.task import Task

Points = Iterator[tuple[float, Pass]]
"""Weighted passes whose gradients are averaged; the weights add up to one."""


@dataclass(frozen=True, eq=False)
class ComponentGraph:
    """Nodes, slots and which slot sees which node; see `Graph`. Built by `component_graph`.

    Attributes:
        task: the model, the prompts and the metric; its SAEs are those of the sites whose features are nodes.
        writers: in the order in which they write.
        readers: in the order in which they read.
    """

    task: Task
    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    unit: str = "edges"

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Ids of all nodes."""
        return tuple(node for writer in self.writers for node in writer.nodes)

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Ids of all slots."""
        return tuple(slot for reader in self.readers for slot in reader.slots)

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

    @cached_property
    def items(self) -> tuple[str, ...]:
        """All edges as `source -> slot`, in the order of `pairs`."""
        return tuple(
            f"{self.nodes[source]} -> {self.slots[target]}"
            for source, target in zip(*self.pairs, strict=True)
        )

    @cached_property
    def groups(self) -> Int[np.ndarray, "item"]:
        """The reader of each edge's slot."""
        return self.slot_groups[0][self.pairs[1]]

    @cached_property
    def errors(self) -> Bool[np.ndarray, "item"]:
        """Which edges leave or enter an error node."""
        sources, targets = self.pairs
        nodes, slots = (
            np.array([parse_node(name).kind == "error" for name in names])
            for names in (self.nodes, self.slots)
        )
        return nodes[sources] | slots[targets]

    @cached_property
    def slot_groups(self) -> tuple[Int[np.ndarray, "slot"], ...]:
        """The reader of each slot, then the kind of a head's input, then the slot itself."""
        reader = np.repeat(np.arange(len(self.readers)), [len(reader.slots) for reader in self.readers])
        kinds = [parse_node(slot).slot or "" for slot in self.slots]
        return reader, np.unique(kinds, return_inverse=True)[1], np.arange(len(self.slots))

    @cached_property
    def _feeds(self) -> Bool[np.ndarray, "slot node"]:
        place = {node: number for number, node in enumerate(self.nodes)}
        feeds = np.zeros((len(self.slots), len(self.nodes)), dtype=bool)
        for number, slot in enumerate(self.slots):
            for node in nodes_of_slot(slot, self.nodes, self.slots):
                feeds[number, place[node]] = True
        return feeds

    def feeds(self) -> Bool[np.ndarray, "slot node"]:
        """See `Graph`: a head's queries feed that head, shared keys and values every head of their group."""
        return self._feeds

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

    @property
    def max_tokens(self) -> int:
        """Tokens per pass, fewer than the task's where the graph is large."""
        return tokens_at_once(self.task, len(self.nodes))

    def seen_by(self, reader: Reader) -> slice:
        """Which of the nodes a reader sees: those that write before it reads, from the last dictionary on."""
        before = [writer for writer in self.writers if writer.writes_at < reader.reads_at]
        cuts = [place for place, writer in enumerate(before) if writer.cuts]
        hidden = sum(len(writer.nodes) for writer in before[: cuts[-1]]) if cuts else 0
        return slice(hidden, sum(len(writer.nodes) for writer in before))

    @cached_property
    def products(self) -> EdgeProducts:
        """What nodes write against what slots read."""
        seen = tuple(self.seen_by(reader) for reader in self.readers)
        return EdgeProducts(self.writers, self.readers, seen, self.task.anatomy.last)

    def writer_of(self, node: int) -> tuple[Writer, int]:
        """The writer of a node, and which of its nodes it is."""
        for writer in self.writers:
            if node < len(writer.nodes):
                return writer, node
            node -= len(writer.nodes)
        raise IndexError(node)

    def reader_of(self, slot: int) -> tuple[Reader, int]:
        """The reader of a slot, and which of its slots it is."""
        for reader in self.readers:
            if slot < len(reader.slots):
                return reader, slot
            slot -= len(reader.slots)
        raise IndexError(slot)

    def both_sides(self, batch: PairBatch, *, gradient: bool = False, edges: bool = False) -> CleanCorrupt:
        """See `Graph`."""
        if batch.reference is not None:
            known = self._references[batch.reference]
            sides = reference_sides(self.task, batch, known, self.value_taps, self.writers)
            written = self.products.written(sides)
            return with_reference_metric(self.task, sides, written[:, self.seen_by(self.readers[-1])].sum(1))
        if gradient:
            taps = self.taps if edges else self.node_taps
            return differentiated_sides(self.task, batch, taps, self.written_taps, self.value_taps)
        return plain_sides(self.task, batch, self.value_taps)

    def linear(self, sides: CleanCorrupt, *, steps: int = 0, edges: bool = False) -> "ComponentLinear":
        """See `Graph`; the path moves the embeddings (`input_path`)."""
        taps = self.taps if edges else self.node_taps
        if steps:
            return self.averaged(sides, input_path(self.task, sides, taps, steps), edges=edges)
        if sides.live.grads:
            return self.averaged(sides, iter([(1.0, sides.live)]), edges=edges, cost=0)
        batch = sides.batch
        point = differentiate(self.task, batch.corrupt, batch.index, taps)
        return self.averaged(sides, iter([(1.0, point)]), edges=edges)

    def averaged(
        self, sides: CleanCorrupt, points: Points, *, edges: bool = False, cost: float = 2
    ) -> "ComponentLinear":
        """Gradients averaged over weighted passes of so many passes each."""
        effects, gradients, passes = 0.0, None, sides.passes
        for weight, point in points:
            parts = [writer.effects(sides, point.grads) for writer in self.writers]
            effects = effects + weight * torch.cat(parts, dim=1)
            if edges:
                new = [reader.read_gradients(sides, point, weight) for reader in self.readers]
                old = gradients or [None] * len(new)
                gradients = [
                    one if other is None else other.plus(one) for one, other in zip(new, old, strict=True)
                ]
            passes += cost
        return ComponentLinear(self, sides, effects, gradients, passes)

    def patcher(self, sides: CleanCorrupt) -> ComponentPatcher:
        """See `Graph`."""
        return ComponentPatcher(self, sides)

    def runner(self, task: Task | None = None) -> ComponentCircuits:
        """See `Graph`."""
        return ComponentCircuits(self, (task or self.task).with_saes(self.task.saes))

    def order(self, effects: Float[np.ndarray, "prompt item"]) -> Int[np.ndarray, "item"]:
        """See `Graph`: greedily from the logits back."""
        strength = np.abs(effects.mean(0, dtype=np.float64))
        return greedy_order(strength, self.pairs, self.feeds(), self.slots.index(TARGET))

    @torch.no_grad()
    def magnitudes(self) -> Float[np.ndarray, "item"]:
        """How much the source's change writes times how much the change of the target's own node writes (for
        the logits: 1).
        """
        total = np.zeros(len(self.nodes))
        for batch in self.task.batches(self.max_tokens):
            written = self.products.written(self.both_sides(batch))
            total += written.norm(dim=-1).sum((0, 2)).double().numpy(force=True)
        size, (sources, targets) = total / len(self.task.prompts), self.pairs
        read_for = np.where(self.feeds(), size, 0.0).sum(1)
        return size[sources] * np.where(np.array(self.slots) == TARGET, 1.0, read_for)[targets]

    def choice(self, members: Collection[Any]) -> Bool[np.ndarray, "item"]:
        """See `Graph`; members are edges (source, slot), or node ids, which stand for all edges between them
        and into the logits.
        """
        names = {member if isinstance(member, str) else f"{member[0]} -> {member[1]}" for member in members}
        nodes = {name for name in names if " -> " not in name}
        if not nodes:
            return chosen_among(self.items, names)
        if nodes != names:
            raise UserError(
                "a circuit of edges and of nodes at once", expected="edges (source, slot), or node ids"
            )
        sources, targets = self.pairs
        kept = chosen_among(self.nodes, nodes - {TARGET})
        open_slots = (self.feeds() & kept).any(1) | (np.array(self.slots) == TARGET)
        return kept[sources] & open_slots[targets]

    @cached_property
    def _references(self) -> dict[Reference, ReferenceValues]:
        features = [writer for writer in self.writers if isinstance(writer, Features)]
        return {
            group.reference: component_references(self.task, group.reference, self.value_taps, features)
            for group in self.task.prompts.groups
            if group.reference is not None
        }


@dataclass(frozen=True, eq=False)
class ComponentLinear:
    """See `Linear`.

    Attributes:
        graph: nodes and edges.
        sides: both runs.
        effects: effect of every node.
        gradients: reader by reader the gradients at what its slots read; None where no edges are wanted.
        passes: passes spent.
    """

    graph: ComponentGraph
    sides: CleanCorrupt
    effects: Float[Tensor, "prompt node"]
    gradients: Sequence[ReadGradients] | None
    passes: float
    edge_passes: float = 0

    def node_effects(self) -> Float[Tensor, "prompt node"]:
        """See `Linear`."""
        return self.effects

    def edge_effects(self) -> Float[Tensor, "prompt edge"]:
        """See `Linear`."""
        return self.graph.products.edges(self.sides, self.gradients)


def component_graph(task: Task, features: Collection[str] = ()) -> ComponentGraph:
    """Embeddings, attention heads, MLPs and the logits, with some features, and the errors of their sites,
    between them.

    Args:
        task: the model, the prompts and the metric; its SAEs are those of the features' sites.
        features: ids of features that are nodes.

    Raises:
        UserError: a model whose parts are not found, or an SAE at a site that is not the residual stream.
    """
    chosen: dict[str, set[int]] = {site: set() for site in task.saes}
    for node in map(parse_node, features):
        if node.kind == "feature":
            chosen[node.site].add(node.feature)
    sites = [Features(task.dictionaries[site], sorted(some)) for site, some in chosen.items()]
    parts: list[Any] = []
    for layer in task.anatomy.layers:
        parts += [Heads(layer), *([MLP(layer)] if layer.mlp is not None else [])]
    writers = sorted([Embeddings(task.anatomy), *parts, *sites], key=lambda part: part.writes_at)
    readers = sorted([*parts, *sites], key=lambda part: part.reads_at)
    return ComponentGraph(task, tuple(writers), (*readers, Logits(task.anatomy)))


def input_path(task: Task, sides: CleanCorrupt, taps: Iterable[str], steps: int) -> Points:
    """Differentiated passes on the straight line between corrupt and clean embeddings, at its midpoints.

        e(alpha) = e_corrupt + alpha (e_clean - e_corrupt)      alpha = (k + 1/2) / steps

    Everything after the embeddings runs freely (integrated gradients over inputs; EAP-IG of Hanna et al.
    2024, 2403.17806, who take end points k / steps instead of midpoints). Each point has the weight 1 / steps
    and costs two passes.

    Raises:
        UserError: no step.
    """
    if steps < 1:
        raise UserError(f"integrated gradients over {steps} steps", expected="at least 1")
    hook, batch = task.anatomy.embedding, sides.batch
    start, change = sides.corrupt.values[hook], sides.change(hook)
    for step in range(steps):
        stream = start + (step + 0.5) / steps * change
        changes = {hook: partial(_replaced, stream)}
        yield 1 / steps, differentiate(task, batch.corrupt, batch.index, taps, changes=changes)


def _replaced(stream: Tensor, value: Tensor) -> Tensor:
    return stream


def _union(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
