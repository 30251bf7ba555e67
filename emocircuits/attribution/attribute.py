"""One call for every attribution: what moves a metric from its value on corrupt prompts to its value on clean ones?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from emocircuits.artifacts.attribution_result import AttributionResult, EdgeEffects
from emocircuits.artifacts.node_id import parse_node
from emocircuits.attribution.atp_star import atp_star
from emocircuits.attribution.attribution_patching import CONVENTIONS, attribution_patching, corrupt_point
from emocircuits.attribution.components import BatchMethod, by_points, graph_attribution
from emocircuits.attribution.edges import counted_edge_effects
from emocircuits.attribution.exact_edges import exact_edges
from emocircuits.attribution.exact_graph import exact_graph
from emocircuits.attribution.exact_patching import exact_patching
from emocircuits.attribution.feature_search import verified_features
from emocircuits.attribution.graph import Graph, component_graph
from emocircuits.attribution.integrated_gradients import STEPS as PATH_STEPS
from emocircuits.attribution.integrated_gradients import input_path, integrated_gradients
from emocircuits.attribution.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.attribution.parts import Features
from emocircuits.attribution.relp import relp_point, relp_rules
from emocircuits.attribution.verified import verified_graph
from emocircuits.errors import UserError, unknown
from emocircuits.interventions.dictionary import open_dictionaries
from emocircuits.models.anatomy import open_anatomy

NODES = ("features", "components", "mixed")
STEPS = 5
MOST_FEATURES = 100


def attribute(
    model: Any,
    clean: Int[torch.Tensor, "..."],
    corrupt: Int[torch.Tensor, "..."],
    metric: Metric,
    *,
    nodes: str = "features",
    edges: bool = True,
    method: str = "attribution_patching",
    saes: Mapping[str, Any] | None = None,
    budget: int | None = None,
    steps: int | None = None,
    max_features: int = MOST_FEATURES,
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effect of every node, and of the edges between nodes, on a metric.

    Positive means that the clean value, put into the corrupt run, raises the metric; gradients are taken on the corrupt side
    (`conventions` of the result says where exactly).

    Args:
        model: any TransformerLens object (`TransformerBridge`, `HookedTransformer`); it is left as it was.
        clean, corrupt: token ids `(prompt, pos)`, pairs row by row.
        metric: logits `(prompt, pos, d_vocab)` -> one value per prompt; one that demands a second argument is given the indices
            of the prompts in the batch.
        nodes: `features` (SAE features and errors), `components` (`embed`, `pos`, `a0.h1`, `m0`), or `mixed` (features and errors
            of the given sites among all components).
        edges: whether edges are wanted, too.
        method: `attribution_patching`, `integrated_gradients`, `atp_star`, `relp`, `verified` or `exact`.
        saes: site -> sae-lens SAE, for features.
        budget: passes that `verified` may spend.
        steps: midpoints of `integrated_gradients`; over inputs for components, over each site's activations for features.
        max_features: most features that edges are drawn among, the strongest ones.
        behaviour: name stored in the result.
        max_tokens: tokens per pass.

    Returns:
        Effects per prompt; `node_table()` and `edge_table()` have means and intervals, `passes` what was spent.

    Raises:
        UserError: an unknown method or kind of node, missing SAEs, prompts that do not fit, a metric that is not one
            differentiable value per prompt, or a budget that is too small.
    """
    if nodes not in NODES:
        raise unknown("kind of nodes", nodes, NODES)
    if nodes != "components" and not saes:
        raise UserError(f"nodes='{nodes}' without SAEs", expected="saes: a mapping from site to SAE", cure="or nodes='components'")
    batches = [PairBatch(clean, corrupt, torch.arange(len(clean)))]
    options = {"behaviour": behaviour, "max_tokens": max_tokens}
    if nodes == "features":
        members: Mapping[str, Callable] = _feature_methods(steps, max_features, budget)
        if method not in members:
            raise unknown("attribution method", method, members)
        return members[method](model, saes, batches, metric, edges=edges, **options)
    graph_members = _graph_methods(steps)
    if method not in (*graph_members, "exact", "verified"):
        raise unknown("attribution method", method, (*graph_members, "exact", "verified"))
    graph, spent = _graph(model, batches, metric, saes if nodes == "mixed" else None, max_features)
    if method == "exact":
        found = exact_graph(graph, batches, metric, edges=edges, **options)
    elif method == "verified":
        found = verified_graph(graph, batches, metric, edges=edges, budget=budget, **options)
    else:
        run, about = graph_members[method]
        found = graph_attribution(graph, batches, metric, run, {**CONVENTIONS, "method": method, **about}, edges=edges, **options)
    return replace(found, passes=found.passes + spent)


def _graph_methods(steps: int | None) -> dict[str, tuple[BatchMethod, dict[str, str]]]:
    steps = STEPS if steps is None else steps
    path = f"averaged over {steps} midpoints between the corrupt and the clean embeddings"
    return {
        "attribution_patching": (by_points(corrupt_point), {}),
        "integrated_gradients": (by_points(partial(input_path, steps=steps)), {"gradient": path}),
        "relp": (by_points(relp_point), {"gradient": "corrupt run, rules of relevance propagation"}),
        "atp_star": (atp_star, {"gradient": "corrupt run; softmax of queries and keys exact; GradDrop over blocks"}),
    }


def _graph(
    model: Any, batches: Sequence[PairBatch], metric: Metric, saes: Mapping[str, Any] | None, max_features: int
) -> tuple[Graph, int]:
    """The graph of all components and, where there are SAEs, of their strongest features; and the passes spent on choosing."""
    anatomy = open_anatomy(model, batches[0].corrupt)
    if saes is None:
        return component_graph(anatomy), 0
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    found = attribution_patching(model, saes, batches, metric)
    chosen: dict[str, list[int]] = {site: [] for site in dictionaries}
    for place in _strongest(found, max_features):
        node = parse_node(found.nodes[place])
        if node.kind == "feature":
            chosen[node.site].append(node.feature)
    parts = [Features(dictionaries[site], sorted(features)) for site, features in chosen.items()]
    return component_graph(anatomy, parts), found.passes


def _strongest(result: AttributionResult, most: int) -> list[int]:
    order = np.argsort(-np.abs(result.effects.mean(0)), kind="stable")
    return [int(place) for place in order[:most]]


def _feature_methods(steps: int | None, most: int, budget: int | None) -> dict[str, Callable[..., AttributionResult]]:
    steps = PATH_STEPS if steps is None else steps

    def joined(result: AttributionResult, *given: Any, path: int = 0, max_tokens: int) -> AttributionResult:
        """The same result with the edges among its strongest nodes."""
        model, saes, batches, metric = given
        chosen = np.sort(_strongest(result, most))
        links, spent = counted_edge_effects(model, saes, batches, metric, [result.nodes[place] for place in chosen], steps=path,
                                            max_tokens=max_tokens)
        ends = np.append(chosen, len(result.nodes))
        edges = EdgeEffects.of(chosen[links.sources], ends[links.targets], links.effects, len(result.nodes))
        return replace(result, edges=edges, passes=result.passes + spent)

    def by_gradient(*given: Any, edges: bool, max_tokens: int, behaviour: str) -> AttributionResult:
        found = attribution_patching(*given, behaviour=behaviour, max_tokens=max_tokens)
        return joined(found, *given, max_tokens=max_tokens) if edges else found

    def by_path(*given: Any, edges: bool, max_tokens: int, behaviour: str) -> AttributionResult:
        found = integrated_gradients(*given, behaviour=behaviour, steps=steps, max_tokens=max_tokens)
        return joined(found, *given, path=steps, max_tokens=max_tokens) if edges else found

    def by_rules(model: Any, *given: Any, edges: bool, max_tokens: int, behaviour: str) -> AttributionResult:
        with relp_rules(open_anatomy(model, given[1][0].corrupt)):
            found = by_gradient(model, *given, edges=edges, max_tokens=max_tokens, behaviour=behaviour)
        return replace(found, conventions={**found.conventions, "method": "relp",
                                           "gradient": "corrupt run, rules of relevance propagation"})

    def by_atp_star(model: Any, saes: Any, batches: Any, metric: Metric, *, edges: bool, max_tokens: int, behaviour: str) -> Any:
        graph, spent = _graph(model, batches, metric, saes, most)
        run, about = _graph_methods(None)["atp_star"]
        found = graph_attribution(graph, batches, metric, run, {**CONVENTIONS, "method": "atp_star", **about}, edges=False,
                                  behaviour=behaviour, max_tokens=max_tokens)
        kept = [place for place, node in enumerate(found.nodes) if parse_node(node).kind != "component"]
        found = replace(found, nodes=tuple(found.nodes[place] for place in kept), effects=found.effects[:, kept], slots=(),
                        passes=found.passes + spent)
        return joined(found, model, saes, batches, metric, max_tokens=max_tokens) if edges else found

    def by_search(*given: Any, edges: bool, max_tokens: int, behaviour: str) -> AttributionResult:
        return verified_features(*given, edges=edges, budget=budget, max_edge_nodes=most, behaviour=behaviour, max_tokens=max_tokens)

    def by_patches(*given: Any, edges: bool, max_tokens: int, behaviour: str) -> AttributionResult:
        found = exact_patching(*given, behaviour=behaviour, max_tokens=max_tokens)
        found = replace(found, verified=found.effects.mean(0))
        if not edges:
            return found
        model, saes, batches, metric = given
        chosen = np.sort(_strongest(found, most))
        sites = [parse_node(found.nodes[place]).site for place in chosen]
        order = list(open_dictionaries(saes, getattr(model.cfg, "d_model", None)))
        pairs = [(int(u), int(d)) for u, up in zip(chosen, sites, strict=True) for d, down in zip(chosen, sites, strict=True)
                 if order.index(down) == order.index(up) + 1]
        pairs += [(int(u), len(found.nodes)) for u, up in zip(chosen, sites, strict=True) if up == order[-1]]
        values, spent = exact_edges(*given, [(found.nodes[u], found.slots[d]) for u, d in pairs], max_tokens=max_tokens)
        sources, targets = (np.array(part, dtype=np.int64) for part in zip(*pairs, strict=True))
        links = EdgeEffects.of(sources, targets, values, len(found.nodes), values.mean(0))
        return replace(found, edges=links, passes=found.passes + spent)

    return {"attribution_patching": by_gradient, "integrated_gradients": by_path, "atp_star": by_atp_star, "relp": by_rules,
            "verified": by_search, "exact": by_patches}
