"""What a search for causes knows, and the bench on which it patches within a budget of passes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from emocircuits.graphs.graph import Graph, Patcher
from emocircuits.passes.gathered import as_array
from emocircuits.passes.record import CleanCorrupt

WEAK = 0.02  # share of the metric's mean |clean - corrupt| below which an effect is next to nothing
AUDIT = 0.05  # share of the budget kept for random edges


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known so far. Phases of a search take evidence and give evidence.

    Attributes:
        nodes: effects in the corrupt run: predicted until they are patched.
        node_known: which nodes were patched, or do nothing for certain.
        clean_nodes: effects in the clean run; NaN where they were not patched there.
        links: effects of edges in the corrupt run: predicted until they are patched.
        known: which edges were patched, or do nothing for certain.
        clean_links: effects of edges in the clean run; NaN where they were not patched there.
        predicted: mean |predicted effect| of every edge.
        strength: how much each node does in the corrupt or the clean run.
        only_clean: which nodes do something in the clean run alone.
        steps: midpoints that predictions were integrated over; 0 where none was made.
        audit: what random edges among the rest did; empty where there was no rest.
    """

    nodes: Float[np.ndarray, "prompt node"]
    node_known: Bool[np.ndarray, "node"]
    clean_nodes: Float[np.ndarray, "prompt node"]
    links: Float[np.ndarray, "prompt edge"]
    known: Bool[np.ndarray, "edge"]
    clean_links: Float[np.ndarray, "prompt edge"]
    predicted: Float[np.ndarray, "edge"]
    strength: Float[np.ndarray, "node"]
    only_clean: Bool[np.ndarray, "node"]
    steps: int = 0
    audit: dict[str, float] = field(default_factory=dict)

    def with_nodes(self, chosen: Int[np.ndarray, "chosen"], effects: np.ndarray) -> "Evidence":
        """Nodes patched in the corrupt run."""
        nodes, known, strength = self.nodes.copy(), self.node_known.copy(), self.strength.copy()
        nodes[:, chosen], known[chosen], strength[chosen] = effects, True, np.abs(effects).mean(0)
        return replace(self, nodes=nodes, node_known=known, strength=strength)

    def with_links(
        self, chosen: Int[np.ndarray, "chosen"], effects: np.ndarray, background: str
    ) -> "Evidence":
        """Edges patched in one of the runs."""
        links, known, clean = self.links.copy(), self.known.copy(), self.clean_links.copy()
        if background == "clean":
            clean[:, chosen] = effects
            links[:, chosen[~known[chosen]]] = 0.0
        else:
            links[:, chosen] = effects
        known[chosen] = True
        return replace(self, links=links, known=known, clean_links=clean)

    def weak(self, edges: Int[np.ndarray, "edge"], scale: float) -> Int[np.ndarray, "weak"]:
        """Those of some edges that do next to nothing in the corrupt run."""
        return edges[np.abs(self.links[:, edges]).mean(0) <= WEAK * scale]


@dataclass(frozen=True, eq=False)
class Bench:
    """A graph with its patchers, batch by batch, and a budget.

    Attributes:
        graph: nodes and edges.
        patchers: one per batch.
        budget: passes over all prompts that may be spent; None is no limit.
    """

    graph: Graph
    patchers: tuple[Patcher, ...]
    budget: float | None

    @classmethod
    def open(cls, graph: Graph, budget: float | None = None) -> "Bench":
        """Runs both sides of all prompts."""
        patchers = []
        for batch in graph.task.batches(getattr(graph, "max_tokens", None)):
            sides = graph.both_sides(batch)
            patchers.append(graph.patcher(sides))
            patchers[-1].rows += int(sides.passes * len(batch))
        return cls(graph, tuple(patchers), budget)

    def within(self, budget: float) -> "Bench":
        """The same bench with a budget; what is known of its runs stays known."""
        bench = replace(self, budget=budget)
        bench.__dict__.update({name: value for name, value in self.__dict__.items() if name != "budget"})
        return bench

    @property
    def sides(self) -> list[CleanCorrupt]:
        """Both runs of every batch."""
        return [patcher.sides for patcher in self.patchers]

    @property
    def ablated(self) -> bool:
        """Whether prompts have a reference instead of a partner: there is one run to patch."""
        return self.patchers[0].sides.ablated

    @cached_property
    def order(self) -> Int[np.ndarray, "prompt"]:
        """Prompts in the order of their index."""
        return np.argsort(
            [int(number) for sides in self.sides for number in sides.batch.index], kind="stable"
        )

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Node and slot of every edge."""
        return list(zip(*(ends.tolist() for ends in self.graph.pairs), strict=True))

    @cached_property
    def clean(self) -> Float[np.ndarray, "prompt"]:
        """The metric of the clean runs, batch by batch."""
        return np.concatenate([as_array(sides.clean.metric) for sides in self.sides])

    @cached_property
    def corrupt(self) -> Float[np.ndarray, "prompt"]:
        """The metric of the corrupt runs, batch by batch."""
        return np.concatenate([as_array(sides.corrupt.metric) for sides in self.sides])

    @cached_property
    def scale(self) -> float:
        """Mean |metric(clean) - metric(corrupt)|."""
        return float(np.abs(self.clean - self.corrupt).mean())

    @cached_property
    def changed(self) -> Bool[np.ndarray, "node"]:
        """Which nodes write something else on the clean than on the corrupt run, on any prompt."""
        return np.any([patcher.changed() for patcher in self.patchers], axis=0)

    @cached_property
    def busy(self) -> dict[str, Bool[np.ndarray, "edge"]]:
        """background -> which edges may do anything there."""
        busy = {
            side: np.any([patcher.busy(self.pairs, side) for patcher in self.patchers], axis=0)
            for side in ("corrupt", "clean")
        }
        if self.ablated:
            busy["clean"] = np.zeros_like(busy["clean"])
        return busy

    @property
    def spent(self) -> float:
        """Passes over all prompts."""
        return sum(patcher.rows for patcher in self.patchers) / len(self.order)

    def room(self, kept: float = 0) -> int:
        """Passes that are left, but for some that are kept."""
        if self.budget is None:
            return 1 << 62
        return max(0, int(self.budget - self.spent + 1e-9) - int(kept))

    def spare(self) -> int:
        """Passes that are left, but for those of the audit."""
        return self.room(0 if self.budget is None else AUDIT * self.budget)

    def affordable(self, edges: Int[np.ndarray, "edge"], room: int) -> Int[np.ndarray, "affordable"]:
        """The first edges that so many passes pay for; where edges share a run of their source, the first of
        a source costs one more.
        """
        if self.graph.unit == "edges":
            return edges[:room]
        seen, count = set(), 0
        for edge in edges.tolist():
            source, slot = self.pairs[edge]
            room -= 1 + (source not in seen and slot != len(self.graph.slots) - 1)
            if room < 0:
                break
            seen.add(source)
            count += 1
        return edges[:count]

    def nodes(
        self, chosen: Sequence[int] | Int[np.ndarray, "chosen"], background: str = "corrupt"
    ) -> Float[np.ndarray, "prompt node"]:
        """Real effects of nodes."""
        return self._patched("nodes", [int(node) for node in chosen], background)

    def slots(
        self, chosen: Sequence[int] | Int[np.ndarray, "chosen"], background: str = "corrupt"
    ) -> Float[np.ndarray, "prompt slot"]:
        """Real effects of slots."""
        return self._patched("slots", [int(slot) for slot in chosen], background)

    def edges(
        self, chosen: Sequence[int] | Int[np.ndarray, "chosen"], background: str = "corrupt"
    ) -> Float[np.ndarray, "prompt edge"]:
        """Real effects of edges, given by their numbers; one that cannot do anything costs nothing."""
        chosen = np.asarray(chosen, dtype=np.int64)
        effects, busy = np.zeros((len(self.order), len(chosen))), self.busy[background][chosen]
        effects[:, busy] = self._patched("edges", [self.pairs[edge] for edge in chosen[busy]], background)
        return effects

    def together(
        self, node: int, slots: Sequence[int], background: str = "corrupt"
    ) -> Float[np.ndarray, "prompt"]:
        """Real effect of several slots that read what a node's change writes."""
        return np.concatenate(
            [as_array(patcher.together(node, list(slots), background)) for patcher in self.patchers]
        )

    def _patched(self, kind: str, items: list, background: str) -> np.ndarray:
        if not items:
            return np.zeros((len(self.order), 0))
        return np.concatenate(
            [as_array(getattr(patcher, kind)(items, background)) for patcher in self.patchers]
        ).astype(np.float64)
