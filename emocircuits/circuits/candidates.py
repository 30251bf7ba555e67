"""What a circuit is chosen from, and how a choice is run: features and errors one way, the edges of a graph
another way.

Everything that judges circuits (`quality`, `minimality`, `knockouts`, `controls`) sees candidates alone:
choices are rows of booleans over `names`, so feature, component and mixed circuits are judged by the same
code.
"""

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.components import run_both, stacked, tokens_at_once
from emocircuits.circuits.build import dealt_out
from emocircuits.circuits.feature_runs import FeatureRuns
from emocircuits.circuits.graph_runs import GraphRuns
from emocircuits.errors import UserError
from emocircuits.graphs.components import Graph, component_graph
from emocircuits.graphs.linearise import run_pair
from emocircuits.graphs.parts import Features
from emocircuits.names import TARGET, parse_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.anatomy import open_anatomy
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, chunks
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

ERRORS = ("chosen", "kept", "ablated")
Choices = Bool[np.ndarray, "circuit item"]


@runtime_checkable
class Runs(Protocol):
    """Choices among candidates run on some prompts."""

    def run(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"],
        *,
        ablation: str = "resample",
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        """The metric under each choice.

        Args:
            choices: what each circuit keeps.
            rest: whether it keeps what is no candidate, too.
            ablation: `resample`, `mean` or `zero`.
            errors: `chosen` (as the choice says), `kept` (all) or `ablated` (all).
        """
        ...


@runtime_checkable
class Candidates(Protocol):
    """What a circuit is chosen from.

    Attributes:
        names: node ids, or edges as `source -> slot`.
        effects: effect per prompt on the find prompts.
        groups: random circuits have as many members in each group as the circuit.
        errors: which are error nodes, or edges that leave or enter one.
        unit: `nodes` or `edges`.
    """

    names: tuple[str, ...]
    effects: Float[np.ndarray, "prompt item"]
    groups: Int[np.ndarray, "item"]
    errors: Bool[np.ndarray, "item"]
    unit: str

    def on(self, batches: Sequence[PairBatch], metric: Metric) -> Runs:
        """Ready to run on some prompts."""
        ...

    def order(self) -> Int[np.ndarray, "item"]:
        """Candidates in the order in which circuits of growing size take them."""
        ...

    def magnitudes(self, batches: Sequence[PairBatch], metric: Metric) -> Float[np.ndarray, "item"]:
        """How much each candidate changes between clean and corrupt, gradients aside; mean over prompts."""
        ...

    def choice(self, members: Collection[Any]) -> Bool[np.ndarray, "item"]:
        """A circuit as booleans."""
        ...


@dataclass(frozen=True, eq=False)
class FeatureCandidates:
    """Features and errors with an effect, over all positions; see `Candidates`.

    Attributes:
        columns: feature index of each, the width of the SAE for its error.
        model: any TransformerLens object.
        dictionaries: site -> dictionary.
        max_tokens: tokens per pass.
    """

    names: tuple[str, ...]
    effects: Float[np.ndarray, "prompt item"]
    groups: Int[np.ndarray, "item"]
    errors: Bool[np.ndarray, "item"]
    columns: Int[np.ndarray, "item"]
    model: Any
    dictionaries: Mapping[str, Dictionary]
    max_tokens: int = DEFAULT_MAX_TOKENS
    unit: str = "nodes"

    def on(self, batches: Sequence[PairBatch], metric: Metric) -> Runs:
        """See `Candidates`."""
        return _FeatureChoices(
            self, FeatureRuns(self.model, self.dictionaries, batches, metric, self.max_tokens)
        )

    def order(self) -> Int[np.ndarray, "item"]:
        """As `build.select_nodes` takes them: dealt out over the sites; those whose interval holds 0 come
        last, by strength.
        """
        strength = np.abs(self.effects.mean(0, dtype=np.float64))
        low, high = bootstrap_interval(self.effects)
        certain = (low > 0) | (high < 0)
        first = dealt_out(np.where(certain, strength, 0.0), certain, self.groups, len(strength))
        rest = np.argsort(-strength, kind="stable")
        return np.array([*first, *rest[~np.isin(rest, first)]], dtype=np.int64)

    @torch.no_grad()
    def magnitudes(self, batches: Sequence[PairBatch], metric: Metric) -> Float[np.ndarray, "item"]:
        """Length of what each node's change writes, summed over positions."""
        found, count = np.zeros(len(self.names)), 0
        for chunk in chunks(batches, self.max_tokens):
            run = run_pair(self.model, self.dictionaries, chunk, metric, gradient=False)
            count += len(chunk)
            for number, at in enumerate(run.sites.values()):
                features = at.delta_features.abs().sum((0, 1)) * at.dictionary.decoder.norm(dim=1)
                both = torch.cat([features, at.delta_error.norm(dim=-1).sum()[None]]).numpy(force=True)
                found[self.groups == number] += both[self.columns[self.groups == number]]
        return found / count

    def choice(self, members: Collection[Any]) -> Bool[np.ndarray, "item"]:
        """See `Candidates`; members are node ids."""
        return _chosen(self.names, {str(member) for member in members})


@dataclass(frozen=True, eq=False)
class _FeatureChoices:
    """See `Runs`."""

    of: FeatureCandidates
    runs: FeatureRuns

    def run(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"],
        *,
        ablation: str = "resample",
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        masks = {}
        for number, (site, dictionary) in enumerate(self.of.dictionaries.items()):
            kept = np.repeat(rest[:, None], dictionary.d_sae + 1, axis=1)
            here = self.of.groups == number
            kept[:, self.of.columns[here]] = choices[:, here]
            if errors != "chosen":
                kept[:, -1] = errors == "kept"
            both = torch.from_numpy(kept).to(dictionary.decoder.device)
            masks[site] = (both[:, :-1], both[:, -1])
        return self.runs.metric(masks, ablation)


@dataclass(frozen=True, eq=False)
class EdgeCandidates:
    """Edges of a component or mixed graph; see `Candidates`.

    Attributes:
        graph: nodes and slots.
        dictionaries: site -> dictionary, of the sites whose features are nodes.
        max_tokens: tokens per pass.
    """

    names: tuple[str, ...]
    effects: Float[np.ndarray, "prompt item"]
    groups: Int[np.ndarray, "item"]
    errors: Bool[np.ndarray, "item"]
    graph: Graph
    dictionaries: Mapping[str, Dictionary]
    max_tokens: int = DEFAULT_MAX_TOKENS
    unit: str = "edges"

    def on(self, batches: Sequence[PairBatch], metric: Metric) -> Runs:
        """See `Candidates`."""
        return _EdgeChoices(
            self.errors, GraphRuns(self.graph, self.dictionaries, self.max_tokens), batches, metric
        )

    def order(self) -> Int[np.ndarray, "item"]:
        """From the logits back: each time the strongest edge into what is reached already (greedy search of
        EAP and MIB).
        """
        sources, targets = self.graph.pairs
        feeds = fed_by(self.graph)
        strength = np.abs(self.effects.mean(0, dtype=np.float64))
        incoming: dict[int, list[int]] = {}
        for edge, target in enumerate(targets.tolist()):
            incoming.setdefault(target, []).append(edge)
        waiting = [(-strength[edge], edge) for edge in incoming[self.graph.slots.index(TARGET)]]
        heapq.heapify(waiting)
        reached, taken = set(), []
        while waiting:
            _, edge = heapq.heappop(waiting)
            taken.append(edge)
            source = int(sources[edge])
            if source not in reached:
                reached.add(source)
                for slot in np.flatnonzero(feeds[:, source]):
                    for more in incoming.get(int(slot), ()):
                        heapq.heappush(waiting, (-strength[more], more))
        left = np.setdiff1d(np.argsort(-strength, kind="stable"), taken, assume_unique=True)
        return np.array([*taken, *left], dtype=np.int64)

    @torch.no_grad()
    def magnitudes(self, batches: Sequence[PairBatch], metric: Metric) -> Float[np.ndarray, "item"]:
        """How much the source's change writes times how much the change of the target's own node writes (for
        the logits: 1).
        """
        found = []
        for chunk in chunks(batches, tokens_at_once(self.graph, self.max_tokens)):
            pair, _ = run_both(self.graph, chunk, metric)
            found.append(self.graph.written(pair).norm(dim=-1).sum(2))
        size = stacked(found).mean(0)
        sources, targets = self.graph.pairs
        read_for = np.where(fed_by(self.graph), size, 0.0).sum(1)
        return size[sources] * np.where(np.array(self.graph.slots) == TARGET, 1.0, read_for)[targets]

    def choice(self, members: Collection[Any]) -> Bool[np.ndarray, "item"]:
        """See `Candidates`; members are edges (source, slot), or node ids, which stand for all edges between
        them.
        """
        return edge_choice(self.graph, members)


@dataclass(frozen=True, eq=False)
class _EdgeChoices:
    """See `Runs`; features that are no nodes of the graph are live only where everything is."""

    errors: Bool[np.ndarray, "item"]
    runs: GraphRuns
    batches: Sequence[PairBatch]
    metric: Metric

    def run(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"],
        *,
        ablation: str = "resample",
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        kept = (
            choices
            if errors == "chosen"
            else choices | self.errors
            if errors == "kept"
            else choices & ~self.errors
        )
        whole = kept.all(axis=1) & rest
        if not whole.any():
            return self.runs.metric(self.batches, self.metric, kept, ablation)
        out = np.tile(self.runs.clean_metric(self.batches, self.metric), (len(kept), 1))
        if not whole.all():
            out[~whole] = self.runs.metric(self.batches, self.metric, kept[~whole], ablation)
        return out


def candidates_of(
    model: Any,
    result: AttributionResult,
    batches: Sequence[PairBatch],
    saes: Mapping[str, Any] | None = None,
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Candidates:
    """What circuits can be chosen from, given an attribution: nodes of a feature result, edges of a component
    or mixed one.

    Args:
        model: any TransformerLens object.
        result: effects on the find prompts.
        batches: any prompts, to open the model with.
        saes: site -> SAE, of a result with features.
        max_tokens: tokens per pass.

    Raises:
        UserError: features without SAEs, nodes at single positions, or a component result without edges.
    """
    nodes = [parse_node(name) for name in result.nodes]
    if any(node.position is not None for node in nodes):
        raise UserError(
            "a circuit of nodes at single positions",
            expected="nodes over all positions",
            cure="attribute with positions summed",
        )
    kinds = {node.kind for node in nodes}
    sites = {node.site for node in nodes if node.site is not None}
    dictionaries = dictionaries_at(model, sites, saes)
    if "component" not in kinds:
        place = {site: number for number, site in enumerate(dictionaries)}
        columns = np.array(
            [dictionaries[node.site].d_sae if node.feature is None else node.feature for node in nodes]
        )
        return FeatureCandidates(
            result.nodes,
            result.effects,
            np.array([place[node.site] for node in nodes]),
            np.array([node.kind == "error" for node in nodes]),
            columns,
            model,
            dictionaries,
            max_tokens,
        )
    if result.edges is None:
        raise UserError("a component result without edges", expected="attribute(…, edges=True)")
    graph = graph_of(model, result.nodes, dictionaries, batches)
    names = edge_names(graph)
    column = {
        f"{result.nodes[source]} -> {result.slots[target]}": number
        for number, (source, target) in enumerate(
            zip(result.edges.sources, result.edges.targets, strict=True)
        )
    }
    missing = [name for name in names if name not in column]
    if missing:
        raise UserError(f"the result has no edge {missing[0]}", expected="all edges of its graph")
    groups = np.searchsorted(
        np.cumsum([len(reader.slots) for reader in graph.readers]), graph.pairs[1], side="right"
    )
    effects = result.edges.effects[:, [column[name] for name in names]]
    return EdgeCandidates(names, effects, groups, edges_at_errors(graph), graph, dictionaries, max_tokens)


def edge_choice(graph: Graph, members: Collection[Any], errors: str = "chosen") -> Bool[np.ndarray, "edge"]:
    """A circuit given by edges (source, slot), or by nodes (all edges between them and into the logits), as
    booleans over the edges.

    Raises:
        UserError: edges and nodes at once, or what the graph does not have.
    """
    pairs = {member if isinstance(member, str) else f"{member[0]} -> {member[1]}" for member in members}
    nodes = {name for name in pairs if " -> " not in name}
    if nodes and nodes != pairs:
        raise UserError(
            "a circuit of edges and of nodes at once", expected="edges (source, slot), or node ids"
        )
    sources, targets = graph.pairs
    if nodes:
        kept = _chosen(graph.nodes, nodes - {TARGET})
        open_slots = (fed_by(graph) & kept).any(1) | (np.array(graph.slots) == TARGET)
        choice = kept[sources] & open_slots[targets]
    else:
        choice = _chosen(edge_names(graph), pairs)
    at_errors = edges_at_errors(graph)
    return {"chosen": choice, "kept": choice | at_errors, "ablated": choice & ~at_errors}[errors]


def edge_names(graph: Graph) -> tuple[str, ...]:
    """All edges as `source -> slot`, in the order of `graph.pairs`."""
    return tuple(
        f"{graph.nodes[source]} -> {graph.slots[target]}" for source, target in zip(*graph.pairs, strict=True)
    )


def edges_at_errors(graph: Graph) -> Bool[np.ndarray, "edge"]:
    """Which edges leave or enter an error node."""
    sources, targets = graph.pairs
    nodes, slots = (
        np.array([name.startswith("error/") for name in names]) for names in (graph.nodes, graph.slots)
    )
    return nodes[sources] | slots[targets]


def graph_of(
    model: Any, nodes: Sequence[str], dictionaries: Mapping[str, Dictionary], batches: Sequence[PairBatch]
) -> Graph:
    """The graph of all components and of the features among some nodes."""
    chosen: dict[str, set[int]] = {site: set() for site in dictionaries}
    for node in map(parse_node, nodes):
        if node.kind == "feature":
            chosen[node.site].add(node.feature)
    parts = [Features(dictionaries[site], sorted(features)) for site, features in chosen.items()]
    return component_graph(open_anatomy(model, batches[0].corrupt), parts)


def fed_by(graph: Graph) -> Bool[np.ndarray, "slot node"]:
    """Which nodes each slot is read for: a head's queries feed that head, shared keys and values every head
    of their group.
    """
    place = {node: number for number, node in enumerate(graph.nodes)}
    feeds = np.zeros((len(graph.slots), len(graph.nodes)), dtype=bool)
    for number, slot in enumerate(graph.slots):
        for node in nodes_of_slot(slot, graph.nodes, graph.slots):
            feeds[number, place[node]] = True
    return feeds


def nodes_of_slot(slot: str, nodes: Sequence[str], slots: Sequence[str]) -> tuple[str, ...]:
    """The nodes that a slot is read for; none for the logits."""
    owner, bracket, kind = slot.partition("<")
    if not bracket:
        return (slot,) if slot != TARGET else ()
    block = owner.partition(".")[0]
    heads = [node for node in nodes if node.startswith(f"{block}.h") and "<" not in node]
    shared = [other for other in slots if other.startswith(f"{block}.h") and other.endswith(f"<{kind}")]
    size = len(heads) // len(shared)
    first = shared.index(slot) * size
    return tuple(heads[first : first + size])


def dictionaries_at(
    model: Any, sites: Collection[str], saes: Mapping[str, Any] | None
) -> dict[str, Dictionary]:
    """The dictionaries of some sites.

    Raises:
        UserError: a site without SAE, or an SAE that does not fit.
    """
    missing = sorted(site for site in sites if site not in (saes or {}))
    if missing:
        raise UserError(
            f"no SAE for {missing[0]}, where the circuit has nodes",
            expected=f"saes with {', '.join(missing)}",
        )
    return (
        open_dictionaries({site: saes[site] for site in sites}, getattr(model.cfg, "d_model", None))
        if sites
        else {}
    )


def _chosen(names: Sequence[str], wanted: Collection[str]) -> Bool[np.ndarray, "item"]:
    unknown_names = sorted(set(wanted) - set(names))
    if unknown_names:
        raise UserError(
            f"the circuit has {unknown_names[0]}, which the attribution does not have",
            expected="nodes and edges of the result it was found in",
        )
    return np.array([name in wanted for name in names])
