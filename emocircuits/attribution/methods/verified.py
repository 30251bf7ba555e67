"""Gradients propose, interventions decide: graphs whose strong nodes and edges were all really patched.

Gradients miss an edge where attention is saturated, a gate is shut or causes cancel, and report some that do
nothing. So:

1. integrated gradients over inputs predict every node and edge;
2. every node is patched for real in the corrupt run;
3. edges with a strong prediction are patched for real in the corrupt run; one that does next to nothing there
   is patched in the clean run as well, where a cause shows that needs another one;
4. nodes are patched in the clean run, those first that do nothing in the corrupt one;
5. edges between two ends that were both found to matter are patched, strongest ends first, in the run where
   their ends matter;
6. a node whose edges do not add up to what it does, in either run, has others: they are patched, whatever was
   predicted. So edges are found whose far end holds the same in both runs because two changes there cancel;
7. a few random edges among the rest are patched: how strong can a missed one be?

An edge whose slot would read nothing new has no effect for certain, and no pass is spent on it. `effect` is
the verified effect where there is one and the prediction elsewhere; `verified` is the effect in the corrupt
run or, where that is next to nothing and the clean run shows more, in the clean run. Passes count prompts run
over prompts given, so patches run side by side are not free.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.components import run_both, stacked, tokens_at_once
from emocircuits.attribution.methods.attribution_patching import CONVENTIONS
from emocircuits.attribution.methods.integrated_gradients import input_path
from emocircuits.errors import UserError
from emocircuits.graphs.components import Graph
from emocircuits.graphs.patches import BACKGROUNDS, Patcher
from emocircuits.numerics import generator
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks

SHARE_OF_EXACT, MOST_STEPS = 0.4, 5
STRONG, WEAK, NOTHING = 0.005, 0.02, 1e-3  # shares of the metric's mean |clean - corrupt|
AUDIT = 0.05  # share of the budget kept for random edges


def verified_graph(
    graph: Graph,
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    edges: bool = True,
    budget: int | None = None,
    behaviour: str = "",
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of all nodes and edges, the strong ones verified within a budget of passes.

    Args:
        graph: the graph.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        edges: whether edges are wanted, too.
        budget: passes over all prompts that may be spent; by default 40 % of what exact patching of
            everything takes.
        behaviour: name stored in the result.
        seed: seed of the random edges of the audit.
        max_tokens: tokens per pass.

    Raises:
        UserError: a budget that does not even pay for the gradients and one patch per node.
    """
    search = _Search(graph, batches, metric, budget, edges, max_tokens)
    if edges and search.all_affordable():
        search.patch_everything()
        return search.result(behaviour, edges)
    search.predict(edges)
    search.patch_nodes()
    if edges:
        search.patch_strong()
        search.patch_nodes_in_clean()
        search.patch_between_causes()
        search.patch_unexplained()
        search.audit(seed)
    return search.result(behaviour, edges)


class _Search:
    """What is known so far, and what it cost.

    Attributes:
        nodes, links: effects per prompt in the corrupt run: predicted until they are patched.
        node_known, known: which of them were patched, or are zero for certain.
        clean_nodes, clean_links: effects per prompt in the clean run; NaN where they were not patched there.
        strength: how much each node does in the corrupt or the clean run.
    """

    def __init__(
        self,
        graph: Graph,
        batches: Sequence[PairBatch],
        metric: Metric,
        budget: int | None,
        edges: bool,
        max_tokens: int,
    ):
        self.graph, self._metric = graph, metric
        self._order = np.argsort(all_indices(batches), kind="stable")
        self._patchers = []
        for chunk in chunks(batches, tokens_at_once(graph, max_tokens)):
            pair, spent = run_both(graph, chunk, metric)
            self._patchers.append(Patcher(graph, chunk, pair, metric, max_tokens))
            self._patchers[-1].rows += spent * len(chunk)
        self.sources, self.targets = graph.pairs
        self._reader = np.repeat(
            np.arange(len(graph.readers)), [len(reader.slots) for reader in graph.readers]
        )
        self._kind = np.array([slot.partition("<")[2] for slot in graph.slots])
        self._pairs = list(zip(self.sources.tolist(), self.targets.tolist(), strict=True))
        exact = 2 + len(graph.nodes) + (len(self._pairs) if edges else 0)
        self._budget = int(SHARE_OF_EXACT * exact) if budget is None else budget
        self.steps = int(np.clip((0.2 * self._budget - 2) // 2, 1, MOST_STEPS))
        least = 2 + 2 * self.steps + (0 if budget is None else len(graph.nodes))
        if self._budget < least and budget is not None:
            raise UserError(
                f"a budget of {budget} passes",
                expected=f"at least {least}: gradients, and one patch per node",
                cure="raise the budget or ask for attribution_patching",
            )
        change = stacked([one.pair.clean.metric - one.pair.corrupt.metric for one in self._patchers])
        self._scale = float(np.abs(change).mean())
        self._missed: dict[str, float] = {}
        self._predicted = np.zeros(len(self._pairs))
        self.nodes, self.node_known = np.zeros((len(self._order), len(graph.nodes))), ~self._changed()
        self.strength, self._only_clean = np.zeros(len(graph.nodes)), np.zeros(len(graph.nodes), dtype=bool)
        self.links, self.known = (
            np.zeros((len(self._order), len(self._pairs))),
            np.zeros(len(self._pairs), dtype=bool),
        )
        self.clean_nodes, self.clean_links = (
            np.full_like(self.nodes, np.nan),
            np.full_like(self.links, np.nan),
        )
        if edges:
            self._busy = {
                side: np.any([one.busy(self._pairs, side).numpy() for one in self._patchers], axis=0)
                for side in BACKGROUNDS
            }
            if self._ablated:
                self._busy["clean"] = np.zeros_like(self._busy["clean"])
            self.known = ~self._busy["corrupt"] & ~self._busy["clean"]

    @property
    def _ablated(self) -> bool:
        return self._patchers[0].pair.ablated

    @property
    def spent(self) -> float:
        """Passes over all prompts."""
        return sum(one.rows for one in self._patchers) / len(self._order)

    def _room(self, kept: int = 0) -> int:
        return max(0, int(self._budget - self.spent + 1e-9) - kept)

    def all_affordable(self) -> bool:
        """Whether every node and edge that does anything can be patched in both runs without asking a
        gradient first.
        """
        return (
            2 * int((~self.node_known).sum()) + sum(int(busy.sum()) for busy in self._busy.values())
            <= self._room()
        )

    def patch_everything(self) -> None:
        """What small graphs get."""
        self.steps = 0
        self.patch_nodes()
        everything = np.flatnonzero(~self.known)
        self._take_edges(everything, "corrupt")
        self._take_edges(self._weak(everything), "clean")

    def predict(self, edges: bool) -> None:
        """Step 1."""
        nodes, links = [], []
        for one in self._patchers:
            effect, seeds = 0.0, None
            for weight, point in input_path(
                self.graph.anatomy, one.chunk, one.pair, self._metric, self.graph.taps, steps=self.steps
            ):
                effect = effect + weight * self.graph.node_effects(one.pair, point)
                seeds = self.graph.seeds(point, weight, seeds) if edges else None
                one.rows += 2 * len(one.chunk)
            nodes.append(effect)
            if edges:
                links.append(self.graph.edge_effects(one.pair, seeds))
        self.nodes = np.where(self.node_known, 0.0, stacked(nodes))
        self.strength = np.abs(self.nodes).mean(0)
        if edges:
            self.links = np.where(self.known, 0.0, stacked(links))
            self._predicted = np.abs(self.links).mean(0)

    def patch_nodes(self) -> None:
        """Step 2."""
        chosen = np.flatnonzero(~self.node_known)
        chosen = chosen[np.argsort(-self.strength[chosen], kind="stable")][: self._room()]
        self.nodes[:, chosen] = self._patched("nodes", chosen, "corrupt")
        self.node_known[chosen] = True
        self.strength[chosen] = np.abs(self.nodes[:, chosen]).mean(0)

    def patch_strong(self) -> None:
        """Step 3."""
        order = np.argsort(-self._predicted, kind="stable")
        strong = order[(self._predicted[order] >= STRONG * self._scale) & ~self.known[order]]
        chosen = strong[: self._spare()]
        self._take_edges(chosen, "corrupt")
        self._take_edges(self._weak(chosen)[: self._spare()], "clean")

    def patch_nodes_in_clean(self) -> None:
        """Step 4; whether a node's edges are patched in the clean run follows from it."""
        if self._ablated:
            return
        changed = np.flatnonzero(self.node_known & self._changed())
        changed = changed[np.argsort(self.strength[changed] > NOTHING * self._scale, kind="stable")][
            : self._spare()
        ]
        self.clean_nodes[:, changed] = self._patched("nodes", changed, "clean")
        lost = np.abs(self.clean_nodes[:, changed]).mean(0)
        self._only_clean[changed] = (lost > NOTHING * self._scale) & (
            self.strength[changed] <= NOTHING * self._scale
        )
        self.strength[changed] = np.maximum(self.strength[changed], lost)

    def patch_between_causes(self) -> None:
        """Step 5."""
        owner = self._owners()
        ends = np.minimum(self.strength[self.sources], np.where(owner < 0, np.inf, self.strength[owner]))
        order = np.argsort(-ends, kind="stable")
        chosen = order[(ends[order] >= STRONG * self._scale) & ~self.known[order]]
        chosen = chosen[: self._spare()]
        in_clean = self._only_clean[self.sources[chosen]] | (
            (owner[chosen] >= 0) & self._only_clean[owner[chosen]]
        )
        self._take_edges(chosen[~in_clean], "corrupt")
        self._take_edges(chosen[in_clean], "clean")

    def patch_unexplained(self) -> None:
        """Step 6: slots of one block together first, then what they consist of, and at last every slot, as
        far as the budget goes.
        """
        for node, background, edges in self._by_cost(
            lambda edges: len(np.unique(self._reader[self.targets[edges]]))
        ):
            self._narrow(node, edges, background)
        for _, background, edges in self._by_cost(len):
            self._take_edges(edges[: self._spare()], background)

    def _by_cost(self, cost: Callable[[np.ndarray], int]) -> list[tuple[int, str, np.ndarray]]:
        """Nodes with something unexplained, their run and open edges; the cheap first: what strong early
        nodes leave open may be that their paths meet further on.
        """
        wanted = []
        for background in BACKGROUNDS:
            rest, edges = self._unexplained(background)
            for node in np.unique(self.sources[edges]):
                own = edges[self.sources[edges] == node]
                wanted.append(
                    (
                        cost(own),
                        -rest[node],
                        int(node),
                        background,
                        own[np.argsort(-self._predicted[own], kind="stable")],
                    )
                )
        return [tuple(one[2:]) for one in sorted(wanted, key=lambda one: one[:2])]

    def _narrow(self, node: int, edges: np.ndarray, background: str) -> None:
        """Patches the edges of a node that do something, as found by patching them by block, then by kind,
        then alone.
        """
        ways = (self._reader[self.targets[edges]], self._kind[self.targets[edges]], edges)
        label = next((way for way in ways if len(np.unique(way)) > 1), edges)
        groups = [edges[label == one] for one in dict.fromkeys(label.tolist())]
        alone = np.array([group[0] for group in groups if len(group) == 1], dtype=np.int64)
        self._take_edges(alone[: self._spare()], background)
        for group in groups:
            if len(group) > 1 and self._spare():
                slots = self.targets[group].tolist()
                if (
                    np.abs(stacked([one.together(node, slots, background) for one in self._patchers])).mean()
                    >= WEAK * self._scale
                ):
                    self._narrow(node, group, background)

    def _spare(self) -> int:
        return self._room(int(AUDIT * self._budget))

    def _unexplained(self, background: str) -> tuple[np.ndarray, np.ndarray]:
        """How much of every node's effect in a run its edges leave open, and the open edges of those where it
        is not little.
        """
        nodes, links, known = self.nodes, np.where(self.known, self.links, 0.0), self.known
        if background == "clean":
            nodes, known = (
                self.clean_nodes,
                ~np.isnan(self.clean_links[0]) | (np.abs(links).mean(0) > WEAK * self._scale),
            )
            links = np.where(np.isnan(self.clean_links), links, self.clean_links)
        rest = nodes.copy()
        np.subtract.at(rest.T, self.sources, links.T)
        rest = np.where(self.node_known, np.nan_to_num(np.abs(rest).mean(0)), 0.0)
        return rest, np.flatnonzero(
            (rest[self.sources] >= WEAK * self._scale) & ~known & self._busy[background]
        )

    def audit(self, seed: int) -> None:
        """Step 7."""
        rest = np.flatnonzero(~self.known)
        if not len(rest):
            return
        drawn = generator(seed, "audit").permutation(rest)[
            : max(1, min(self._room(), int(AUDIT * self._budget)))
        ]
        drawn = drawn[: self._room()]
        self._take_edges(drawn, "corrupt")
        largest = np.abs(self.links[:, drawn]).mean(0).max(initial=0.0)
        self._missed = {
            "unverified_edges": int((~self.known).sum()),
            "audited_edges": len(drawn),
            "largest_audited_effect": float(largest),
            # the rule of three: 95 % confidence that no more than this share of the rest exceeds the largest
            # of the audit
            "share_that_may_exceed_it": float(min(1.0, 3 / max(1, len(drawn)))),
            "largest_prediction_left": float(self._predicted[~self.known].max(initial=0.0)),
        }

    def result(self, behaviour: str, edges: bool) -> AttributionResult:
        """What was found."""
        clean, corrupt = (
            stacked([getattr(one.pair, side).metric for one in self._patchers])
            for side in ("clean", "corrupt")
        )
        conventions = {
            **CONVENTIONS,
            "method": "verified",
            "gradient": f"averaged over {self.steps} midpoints of the inputs",
            "verified": (
                "effect in the corrupt run, or in the clean run where that is next to nothing and "
                "the clean run shows more"
            ),
        }
        if self._missed:
            conventions["missed"] = json.dumps(self._missed)
        links = None
        if edges:
            in_clean = ~(np.abs(self.links).mean(0) > WEAK * self._scale) & (
                np.abs(self.clean_links).mean(0) > np.abs(self.links).mean(0)
            )
            effects = np.where(in_clean, self.clean_links, self.links)
            verified = np.where(self.known, effects.mean(0), np.nan)
            links = EdgeEffects.of(
                self.sources, self.targets, effects[self._order], len(self.graph.nodes), verified
            )
        return AttributionResult(
            behaviour,
            self.graph.nodes,
            self.nodes[self._order],
            clean[self._order],
            corrupt[self._order],
            conventions,
            passes=int(np.ceil(self.spent - 1e-9)),
            edges=links,
            verified=np.where(self.node_known, self.nodes.mean(0), np.nan),
            slots=self.graph.slots,
        )

    def _take_edges(self, chosen: np.ndarray, background: str) -> None:
        if background == "clean" and self._ablated:  # there is one run to patch, and it was patched
            return
        found = np.zeros((len(self._order), len(chosen)))
        busy = self._busy[background][chosen]
        found[:, busy] = self._patched("edges", [self._pairs[edge] for edge in chosen[busy]], background)
        if background == "clean":
            self.clean_links[:, chosen] = found
            self.links[:, chosen[~self.known[chosen]]] = 0.0
        else:
            self.links[:, chosen] = found
        self.known[chosen] = True

    def _weak(self, edges: np.ndarray) -> np.ndarray:
        """Those of some edges that do next to nothing in the corrupt run."""
        return edges[np.abs(self.links[:, edges]).mean(0) <= WEAK * self._scale]

    def _patched(self, kind: str, chosen: Sequence | np.ndarray, background: str) -> np.ndarray:
        if not len(chosen):
            return np.zeros((len(self._order), 0))
        items = [int(one) for one in chosen] if kind == "nodes" else chosen
        return stacked([getattr(one, kind)(items, background) for one in self._patchers])

    def _changed(self) -> np.ndarray:
        """Which nodes write something else on the clean than on the corrupt run, on any prompt."""
        found = np.zeros(len(self.graph.nodes), dtype=bool)
        for one in self._patchers:
            written = self.graph.written(one.pair).abs().amax((0, 2, 3))
            found |= (written > 1e-9 * written.max().clamp(min=1e-30)).numpy(force=True)
        return found

    def _owners(self) -> np.ndarray:
        """The node whose computation each edge's slot feeds; -1 for the logits."""
        place = {node: number for number, node in enumerate(self.graph.nodes)}
        return np.array([place.get(slot.partition("<")[0], -1) for slot in self.graph.slots])[self.targets]
