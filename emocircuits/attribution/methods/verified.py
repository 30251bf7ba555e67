"""Gradients propose, interventions decide: graphs whose strong nodes and edges were all really patched.

Gradients miss an edge where attention is saturated, a gate is shut or causes cancel, and report some that do
nothing. Where everything can be patched in both runs for a few hundred passes, it is. Else:

1. gradients integrated along a path predict every node and edge;
2. nodes are patched for real in the corrupt run, strongest first;
3. edges with a strong prediction are patched for real in the corrupt run; one that does next to nothing there
   is patched in the clean run as well, where a cause shows that needs another one;
4. nodes are patched in the clean run, those first that do nothing in the corrupt one;
5. edges between two ends that were both found to matter are patched, strongest ends first, in the run where
   their ends matter;
6. a node whose edges do not add up to what it does, in either run, has others: they are patched, whatever was
   predicted. So edges are found whose far end holds the same in both runs because two changes there cancel.
   (Among features, whose edges never add up, the strongest predictions that are left are patched instead.)
7. a few random edges among the rest are patched: how strong can a missed one be?

An edge whose slot would read nothing new has no effect for certain, and no pass is spent on it. `verified` is
the effect in the corrupt run or, where that is next to nothing and the clean run shows more, in the clean
run; it is NaN for what was never patched, and only there `effect` is a prediction. Passes count prompts run
over prompts given, so patches run side by side are not free.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.methods.card import CONVENTIONS, METHODS, MethodCard, Request
from emocircuits.attribution.methods.gradients import feature_effects, graph_of_components, with_edges_of
from emocircuits.attribution.methods.integrated_gradients import COMPONENT_STEPS, FEATURE_STEPS
from emocircuits.attribution.methods.search_evidence import AUDIT, WEAK, Bench, Evidence
from emocircuits.errors import UserError
from emocircuits.graphs.features import FeatureGraph
from emocircuits.graphs.graph import BACKGROUNDS, Graph
from emocircuits.names import parse_node
from emocircuits.numerics import generator
from emocircuits.passes.gathered import as_array, whole_passes

SHARE_OF_EXACT = 0.4  # of exact patching of everything, which a large graph may cost
CHEAP = 300  # passes for which everything is patched in both runs, whatever exact patching costs
FEATURE_PATCHES = 400  # that a search among features spends besides its gradients
NODE_SHARE, NODE_AUDIT = 0.4, 0.1  # of what the gradients among features leave of the budget
STRONG, NOTHING = 0.005, 1e-3  # shares of the metric's mean |clean - corrupt|


def verified(request: Request) -> AttributionResult:
    """Answers a request within its budget.

    Raises:
        UserError: a budget that does not even pay for the gradients and one patch per node.
    """
    if request.nodes == "features":
        return _among_features(request)
    graph, spent = graph_of_components(request)
    found = search(graph, budget=request.budget, edges=request.edges, seed=request.seed)
    return replace(found, passes=whole_passes(found.passes + spent))


def search(
    graph: Graph, *, budget: int | None = None, edges: bool = True, seed: int = 0
) -> AttributionResult:
    """Effects of all nodes and edges of a component graph, the strong ones verified within a budget of
    passes.

    Args:
        graph: the graph.
        budget: passes over all prompts that may be spent; by default 40 % of what exact patching of
            everything takes, or what everything in both runs takes where that is at most `CHEAP` passes.
        edges: whether edges are wanted, too.
        seed: seed of the random edges of the audit.

    Raises:
        UserError: a budget that does not even pay for the gradients and one patch per node.
    """
    bench, steps = _opened(graph, budget, edges)
    evidence = _nothing_known(bench, edges)
    if edges and _price_of_everything(bench, evidence) <= bench.room():
        return _result(bench, _patch_everything(bench, evidence), edges)
    evidence = predict(bench, evidence, steps, edges)
    evidence = patch_nodes(bench, evidence)
    if edges:
        for phase in (patch_strong, patch_nodes_in_clean, patch_between_causes, patch_unexplained):
            evidence = phase(bench, evidence)
        evidence = audit(bench, evidence, seed)
    return _result(bench, evidence, edges)


def predict(bench: Bench, evidence: Evidence, steps: int, edges: bool) -> Evidence:
    """Step 1."""
    nodes, links = [], []
    for patcher in bench.patchers:
        linear = bench.graph.linear(patcher.sides, steps=steps, edges=edges)
        patcher.rows += int(round((linear.passes - patcher.sides.passes) * len(patcher.sides.batch)))
        nodes.append(as_array(linear.node_effects()))
        if edges:
            links.append(as_array(linear.edge_effects()))
    effects = np.where(evidence.node_known, 0.0, np.concatenate(nodes))
    evidence = replace(evidence, nodes=effects, strength=np.abs(effects).mean(0), steps=steps)
    if not edges:
        return evidence
    predicted = np.where(evidence.known, 0.0, np.concatenate(links))
    return replace(evidence, links=predicted, predicted=np.abs(predicted).mean(0))


def patch_nodes(bench: Bench, evidence: Evidence) -> Evidence:
    """Step 2."""
    chosen = np.flatnonzero(~evidence.node_known)
    chosen = chosen[np.argsort(-evidence.strength[chosen], kind="stable")][: bench.room()]
    return evidence.with_nodes(chosen, bench.nodes(chosen))


def patch_strong(bench: Bench, evidence: Evidence) -> Evidence:
    """Step 3."""
    order = np.argsort(-evidence.predicted, kind="stable")
    strong = order[(evidence.predicted[order] >= STRONG * bench.scale) & ~evidence.known[order]]
    chosen = bench.affordable(strong, bench.spare())
    evidence = _take(bench, evidence, chosen, "corrupt")
    return _take(
        bench, evidence, bench.affordable(evidence.weak(chosen, bench.scale), bench.spare()), "clean"
    )


def patch_nodes_in_clean(bench: Bench, evidence: Evidence) -> Evidence:
    """Step 4; whether a node's edges are patched in the clean run follows from it."""
    if bench.ablated:
        return evidence
    changed, least = np.flatnonzero(evidence.node_known & bench.changed), NOTHING * bench.scale
    changed = changed[np.argsort(evidence.strength[changed] > least, kind="stable")][: bench.spare()]
    clean, strength, only = (
        value.copy() for value in (evidence.clean_nodes, evidence.strength, evidence.only_clean)
    )
    clean[:, changed] = bench.nodes(changed, "clean")
    lost = np.abs(clean[:, changed]).mean(0)
    only[changed] = (lost > least) & (strength[changed] <= least)
    strength[changed] = np.maximum(strength[changed], lost)
    return replace(evidence, clean_nodes=clean, strength=strength, only_clean=only)


def patch_between_causes(bench: Bench, evidence: Evidence) -> Evidence:
    """Step 5."""
    sources, owner = bench.graph.pairs[0], _owners(bench)
    ends = np.minimum(evidence.strength[sources], np.where(owner < 0, np.inf, evidence.strength[owner]))
    order = np.argsort(-ends, kind="stable")
    chosen = order[(ends[order] >= STRONG * bench.scale) & ~evidence.known[order]][: bench.spare()]
    in_clean = evidence.only_clean[sources[chosen]] | (
        (owner[chosen] >= 0) & evidence.only_clean[owner[chosen]]
    )
    evidence = _take(bench, evidence, chosen[~in_clean], "corrupt")
    return _take(bench, evidence, chosen[in_clean], "clean")


def patch_unexplained(bench: Bench, evidence: Evidence) -> Evidence:
    """Step 6: slots of one part together first, then what they consist of, and at last every slot, as far as
    the budget goes.
    """
    part = bench.graph.slot_groups[0]
    targets = bench.graph.pairs[1]
    for node, background, edges in _open_edges(
        bench, evidence, lambda edges: len(np.unique(part[targets[edges]]))
    ):
        evidence = _narrow(bench, evidence, node, edges, background)
    for _, background, edges in _open_edges(bench, evidence, len):
        evidence = _take(bench, evidence, edges[: bench.spare()], background)
    return evidence


def patch_by_prediction(bench: Bench, evidence: Evidence) -> Evidence:
    """Step 6 among features: what is predicted strongest among the rest, as far as the budget goes."""
    order = np.argsort(-evidence.predicted, kind="stable")
    chosen = order[~evidence.known[order] & (evidence.predicted[order] > 0)]
    return _take(bench, evidence, bench.affordable(chosen, bench.spare()), "corrupt")


def audit(bench: Bench, evidence: Evidence, seed: int) -> Evidence:
    """Step 7."""
    rest = np.flatnonzero(~evidence.known)
    if not len(rest):
        return evidence
    most = max(1, min(bench.room(), int(AUDIT * (bench.budget or 0))))
    drawn = bench.affordable(generator(seed, "audit").permutation(rest)[:most], bench.room())
    evidence = _take(bench, evidence, drawn, "corrupt")
    largest = np.abs(evidence.links[:, drawn]).mean(0).max(initial=0.0)
    return replace(
        evidence,
        audit={
            "unverified_edges": int((~evidence.known).sum()),
            "audited_edges": len(drawn),
            "largest_audited_effect": float(largest),
            # the rule of three: 95 % confidence that no more than this share of the rest exceeds the largest
            # of the audit
            "share_that_may_exceed_it": float(min(1.0, 3 / max(1, len(drawn)))),
            "largest_prediction_left": float(evidence.predicted[~evidence.known].max(initial=0.0)),
        },
    )


def _opened(graph: Graph, budget: int | None, edges: bool) -> tuple[Bench, int]:
    """The bench, and midpoints of the gradients that its budget pays for."""
    bench, n_edges = Bench.open(graph), len(graph.pairs[0]) if edges else 0
    allowed = int(SHARE_OF_EXACT * (2 + len(graph.nodes) + n_edges)) if budget is None else budget
    steps = int(np.clip((0.2 * allowed - 2) // 2, 1, COMPONENT_STEPS))
    least = 2 + 2 * steps + len(graph.nodes)
    if budget is not None and budget < least:
        raise UserError(
            f"a budget of {budget} passes",
            expected=f"at least {least}: gradients, and one patch per node",
            cure="raise the budget or ask for attribution_patching",
        )
    if budget is None and edges:
        price = _price_of_everything(bench, _nothing_known(bench, edges))
        allowed = max(allowed, price + int(bench.spent) + 1 if price <= CHEAP else 0)
    return bench.within(allowed), steps


def _nothing_known(bench: Bench, edges: bool) -> Evidence:
    n_prompts, n_nodes, n_edges = len(bench.order), len(bench.graph.nodes), len(bench.pairs) if edges else 0
    idle = ~bench.busy["corrupt"] & ~bench.busy["clean"] if edges else np.zeros(0, dtype=bool)
    return Evidence(
        nodes=np.zeros((n_prompts, n_nodes)),
        node_known=~bench.changed,
        clean_nodes=np.full((n_prompts, n_nodes), np.nan),
        links=np.zeros((n_prompts, n_edges)),
        known=idle,
        clean_links=np.full((n_prompts, n_edges), np.nan),
        predicted=np.zeros(n_edges),
        strength=np.zeros(n_nodes),
        only_clean=np.zeros(n_nodes, dtype=bool),
    )


def _price_of_everything(bench: Bench, evidence: Evidence) -> int:
    """Passes for every node and edge that may do anything, in both runs, without asking a gradient first."""
    return 2 * int((~evidence.node_known).sum()) + sum(int(busy.sum()) for busy in bench.busy.values())


def _patch_everything(bench: Bench, evidence: Evidence) -> Evidence:
    """What small graphs get."""
    evidence = patch_nodes(bench, evidence)
    everything = np.flatnonzero(~evidence.known)
    evidence = _take(bench, evidence, everything, "corrupt")
    return _take(bench, evidence, evidence.weak(everything, bench.scale), "clean")


def _take(bench: Bench, evidence: Evidence, chosen: Int[np.ndarray, "chosen"], background: str) -> Evidence:
    """Edges patched in one of the runs."""
    if background == "clean" and bench.ablated:  # there is one run to patch, and it was patched
        return evidence
    return evidence.with_links(chosen, bench.edges(chosen, background), background)


def _open_edges(
    bench: Bench, evidence: Evidence, cost: Callable[[np.ndarray], int]
) -> list[tuple[int, str, Int[np.ndarray, "edge"]]]:
    """Nodes with something unexplained, their run and open edges; the cheap first: what strong early nodes
    leave open may be that their paths meet further on.
    """
    sources, wanted = bench.graph.pairs[0], []
    for background in BACKGROUNDS:
        rest, edges = _unexplained(bench, evidence, background)
        for node in np.unique(sources[edges]):
            own = edges[sources[edges] == node]
            own = own[np.argsort(-evidence.predicted[own], kind="stable")]
            wanted.append((cost(own), -rest[node], int(node), background, own))
    return [tuple(entry[2:]) for entry in sorted(wanted, key=lambda entry: entry[:2])]


def _unexplained(
    bench: Bench, evidence: Evidence, background: str
) -> tuple[Float[np.ndarray, "node"], Int[np.ndarray, "edge"]]:
    """How much of every node's effect in a run its edges leave open, and the open edges of those where it is
    not little.
    """
    sources, least = bench.graph.pairs[0], WEAK * bench.scale
    nodes, links, known = evidence.nodes, np.where(evidence.known, evidence.links, 0.0), evidence.known
    if background == "clean":
        nodes = evidence.clean_nodes
        known = ~np.isnan(evidence.clean_links[0]) | (np.abs(links).mean(0) > least)
        links = np.where(np.isnan(evidence.clean_links), links, evidence.clean_links)
    rest = nodes.copy()
    np.subtract.at(rest.T, sources, links.T)
    rest = np.where(evidence.node_known, np.nan_to_num(np.abs(rest).mean(0)), 0.0)
    return rest, np.flatnonzero((rest[sources] >= least) & ~known & bench.busy[background])


def _narrow(
    bench: Bench, evidence: Evidence, node: int, edges: Int[np.ndarray, "edge"], background: str
) -> Evidence:
    """Patches the edges of a node that do something, as found by patching them by part, then by kind, then
    alone.
    """
    targets = bench.graph.pairs[1]
    labels = [labels[targets[edges]] for labels in bench.graph.slot_groups]
    label = next((label for label in labels if len(np.unique(label)) > 1), edges)
    groups = [edges[label == name] for name in dict.fromkeys(label.tolist())]
    alone = np.array([group[0] for group in groups if len(group) == 1], dtype=np.int64)
    evidence = _take(bench, evidence, alone[: bench.spare()], background)
    for group in groups:
        if len(group) > 1 and bench.spare():
            effect = bench.together(node, targets[group].tolist(), background)
            if np.abs(effect).mean() >= WEAK * bench.scale:
                evidence = _narrow(bench, evidence, node, group, background)
    return evidence


def _owners(bench: Bench) -> Int[np.ndarray, "edge"]:
    """The node whose computation each edge's slot feeds; -1 for the logits."""
    place = {node: number for number, node in enumerate(bench.graph.nodes)}
    owners = [place.get(str(parse_node(slot).owner), -1) for slot in bench.graph.slots]
    return np.array(owners)[bench.graph.pairs[1]]


def _result(bench: Bench, evidence: Evidence, edges: bool) -> AttributionResult:
    about = {
        **CONVENTIONS,
        "method": "verified",
        "gradient": f"averaged over {evidence.steps} midpoints of the inputs" if evidence.steps else "none",
        "verified": "effect in the corrupt run, or in the clean run where that is next to nothing and the "
        "clean run shows more",
    }
    if evidence.audit:
        about["missed"] = json.dumps(evidence.audit)
    order = bench.order
    return AttributionResult(
        bench.graph.task.behaviour,
        bench.graph.nodes,
        evidence.nodes[order],
        bench.clean[order],
        bench.corrupt[order],
        about,
        whole_passes(bench.spent),
        edges=_edge_effects(bench, evidence) if edges else None,
        verified=np.where(evidence.node_known, evidence.nodes.mean(0), np.nan),
        slots=bench.graph.slots,
    )


def _edge_effects(bench: Bench, evidence: Evidence) -> EdgeEffects:
    corrupt, clean = np.abs(evidence.links).mean(0), np.abs(evidence.clean_links).mean(0)
    in_clean = ~(corrupt > WEAK * bench.scale) & (clean > corrupt)
    effects = np.where(in_clean, evidence.clean_links, evidence.links)
    known = np.where(evidence.known, effects.mean(0), np.nan)
    return EdgeEffects.of(*bench.graph.pairs, effects[bench.order], len(bench.graph.nodes), known)


def _among_features(request: Request) -> AttributionResult:
    """All features and errors predicted, the strongest of them and of the edges among the causal ones
    patched.
    """
    n_sites = len(request.task.dictionaries)
    gradients = 2 + 2 * FEATURE_STEPS * n_sites
    budget = gradients + FEATURE_PATCHES if request.budget is None else request.budget
    steps = min(FEATURE_STEPS, (budget // 2 - 2) // (2 * n_sites))
    if steps < 1:
        raise UserError(
            f"a budget of {budget} passes",
            expected=f"at least {2 * (2 + 2 * n_sites)} for {n_sites} sites",
            cure="raise the budget or ask for attribution_patching",
        )
    about = {"gradient": f"mean over {steps} midpoints from corrupt to clean"}
    found = feature_effects(request.task, about, steps=steps)
    room = budget - found.passes
    n_nodes = min(len(found.nodes), int(room * (NODE_SHARE if request.edges else 1 - NODE_AUDIT)))
    order = np.argsort(-np.abs(found.effects.mean(0)), kind="stable")
    n_audit = min(len(order) - n_nodes, int(room * NODE_AUDIT))
    drawn = generator(request.seed, "audit").permutation(order[n_nodes:])[:n_audit]
    chosen = np.concatenate([order[:n_nodes], drawn])
    bench = Bench.open(FeatureGraph(request.task, tuple(found.nodes[place] for place in chosen)))
    patched = bench.nodes(range(len(chosen)))[bench.order]
    effects, known = found.effects.astype(np.float64), np.full(len(found.nodes), np.nan)
    effects[:, chosen], known[chosen] = patched, patched.mean(0)
    missed = np.abs(patched[:, n_nodes:]).mean(0)
    audited = {
        "unverified_nodes": int(np.isnan(known).sum()),
        "audited_nodes": len(drawn),
        "largest_audited_effect": float(missed.max(initial=0.0)),
        "share_that_may_exceed_it": float(min(1.0, 3 / max(1, len(drawn)))),
    }
    result = replace(
        found,
        effects=effects.astype(found.effects.dtype),
        verified=known,
        passes=whole_passes(found.passes + bench.spent),
        conventions={
            **found.conventions,
            "method": "verified",
            "verified": "effect of a real patch in the corrupt run, for edges in the clean run where that is "
            "next to nothing",
            "missed": json.dumps(audited),
        },
    )
    return _feature_edges(request, result, budget, steps) if request.edges else result


def _feature_edges(request: Request, result: AttributionResult, budget: int, steps: int) -> AttributionResult:
    """The edges among the strongest verified nodes, patched as far as the budget goes."""
    strength = np.where(np.isnan(result.verified), 0.0, np.abs(result.effects).mean(0))
    causal = np.argsort(-strength, kind="stable")[: min(request.max_features, int((strength > 0).sum()))]
    if not len(causal):
        return result
    places = np.sort(causal)
    graph = FeatureGraph(request.task, tuple(result.nodes[place] for place in places))
    graph.refuse_side_branches()
    bench = Bench.open(graph).within(max(0, budget - result.passes))
    evidence = _nothing_known(bench, True)
    evidence = predict(bench, evidence, steps, True)
    evidence = evidence.with_nodes(
        np.arange(len(places)), result.effects[:, places][np.argsort(bench.order)].astype(np.float64)
    )
    for phase in (patch_strong, patch_by_prediction, partial(audit, seed=request.seed)):
        evidence = phase(bench, evidence)
    drawn = _result(bench, evidence, True)
    about = dict(result.conventions)
    if evidence.audit:
        about["missed"] = json.dumps({**json.loads(about["missed"]), **evidence.audit})
    return replace(with_edges_of(result, places, drawn), conventions=about)


METHODS.add(
    MethodCard(
        name="verified",
        summary="a gradient stage proposes, real patches decide, within a budget of passes",
        formula="real patches of what gradients, ends that matter and what edges leave unexplained point to",
        gradient="see below",
        passes="at most `budget`",
        source="",
        run=verified,
    ),
)
