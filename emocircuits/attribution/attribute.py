"""One call for every attribution: what moves a metric from its value on corrupt prompts to its value on clean
ones?
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Int

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.components import BatchMethod, by_points, graph_attribution
from emocircuits.attribution.methods.atp_star import atp_star
from emocircuits.attribution.methods.attribution_patching import (
    CONVENTIONS,
    attribution_patching,
    corrupt_point,
)
from emocircuits.attribution.methods.exact_graph import exact_graph
from emocircuits.attribution.methods.feature_methods import (
    BY_POSITION,
    FEATURE_METHODS,
    Question,
    joined,
    strongest,
)
from emocircuits.attribution.methods.integrated_gradients import input_path
from emocircuits.attribution.methods.relp import relp
from emocircuits.attribution.methods.steering_attribution import STEPS as STRENGTHS
from emocircuits.attribution.methods.steering_attribution import Push, mean_difference, steering_attribution
from emocircuits.attribution.methods.verified import verified_graph
from emocircuits.errors import UserError, unknown
from emocircuits.graphs.components import Graph, component_graph
from emocircuits.graphs.parts import Features
from emocircuits.names import parse_node
from emocircuits.passes.anatomy import open_anatomy
from emocircuits.passes.baselines import BASELINES, Baseline
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.sae.dictionary import open_dictionaries

NODES = ("features", "components", "mixed")
STEPS = 5
MOST_FEATURES = 100
EMBEDDING = "blocks.0.hook_resid_pre"


def attribute(
    model: Any,
    clean: Int[torch.Tensor, "..."],
    corrupt: Int[torch.Tensor, "..."] | None,
    metric: Metric,
    *,
    nodes: str = "features",
    edges: bool = True,
    method: str = "attribution_patching",
    saes: Mapping[str, Any] | None = None,
    budget: int | None = None,
    baseline: str | None = None,
    push: Push | None = None,
    positions: bool = False,
    steps: int | None = None,
    max_features: int = MOST_FEATURES,
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effect of every node, and of the edges between nodes, on a metric.

    Positive means that the clean value, put into the corrupt run, raises the metric; gradients are taken on
    the corrupt side (`conventions` of the result says where exactly). With a `baseline` nodes are compared
    with that instead, in the clean run.

    Args:
        model: any TransformerLens object (`TransformerBridge`, `HookedTransformer`); it is left as it was.
        clean, corrupt: token ids `(prompt, pos)`, pairs row by row. With a `baseline` the corrupt prompts are
            what it is taken from and may have any length and number; None takes it from the clean prompts.
        metric: logits `(prompt, pos, d_vocab)` -> one value per prompt; one that demands a second argument is
            given the indices of the prompts in the batch.
        nodes: `features` (SAE features and errors), `components` (`embed`, `pos`, `a0.h1`, `m0`), or `mixed`
            (features and errors of the given sites among all components).
        edges: whether edges are wanted, too.
        method: `attribution_patching`, `integrated_gradients`, `atp_star`, `relp`, `steering`, `verified` or
            `exact`.
        saes: site -> sae-lens SAE, for features.
        budget: passes that `verified` may spend.
        baseline: `mean`, `zero` or `resample`, for prompts without an aligned partner
            (`attribution.baselines`).
        push: the direction that `steering` adds to the corrupt prompts; by default the mean difference
            between clean and corrupt streams, before the first block or (features) before the block of the
            first SAE.
        positions: one node per token position instead of the sum over positions; features alone.
        steps: midpoints of `integrated_gradients` (over inputs for components, over each site's activations
            for features) and of `steering` (over the strength).
        max_features: most features that edges are drawn among, the strongest ones.
        behaviour: name stored in the result.
        max_tokens: tokens per pass.

    Returns:
        Effects per prompt; `node_table()` and `edge_table()` have means and intervals, `passes` what was
        spent.

    Raises:
        UserError: an unknown method or kind of node, missing SAEs, prompts that do not fit, a metric that is
            not one differentiable value per prompt, or a budget that is too small.
    """
    if nodes not in NODES:
        raise unknown("kind of nodes", nodes, NODES)
    if nodes != "components" and not saes:
        raise UserError(
            f"nodes='{nodes}' without SAEs",
            expected="saes: a mapping from site to SAE",
            cure="or nodes='components'",
        )
    members = tuple(sorted({*_graph_methods(None), "steering", "exact", "verified"}))
    if method not in members:
        raise unknown("attribution method", method, members)
    if positions and (nodes != "features" or method not in BY_POSITION):
        raise UserError(
            f"nodes at single positions for nodes='{nodes}', method='{method}'",
            expected=f"nodes='features' and one of {', '.join(BY_POSITION)}",
        )
    if method == "steering" and baseline is not None:
        raise UserError(
            "steering with a baseline",
            expected="the unsteered run, which is its baseline",
            cure="leave `baseline` out",
        )
    batches = [_prompts(clean, corrupt, baseline)]
    if nodes == "features" and method != "atp_star":
        asked = Question(
            model,
            saes,
            batches,
            metric,
            edges,
            positions,
            steps,
            max_features,
            budget,
            push,
            behaviour,
            max_tokens,
        )
        return _with_conventions(FEATURE_METHODS[method](asked), baseline)
    options = {"edges": edges, "behaviour": behaviour, "max_tokens": max_tokens}
    graph, spent = _graph(model, batches, metric, saes if nodes != "components" else None, max_features)
    if method == "steering":
        features = [writer for writer in graph.writers if isinstance(writer, Features)]
        push = push or mean_difference(model, batches, metric, EMBEDDING)
        steps = STRENGTHS if steps is None else steps
        found = steering_attribution(model, batches, metric, push, features=features, steps=steps, **options)
    elif method == "exact":
        found = exact_graph(graph, batches, metric, **options)
    elif method == "verified":
        found = verified_graph(graph, batches, metric, budget=budget, **options)
    else:
        run, about = _graph_methods(steps)[method]
        options["edges"] = edges and nodes != "features"
        found = graph_attribution(
            graph,
            batches,
            metric,
            run,
            {**CONVENTIONS, "method": method, **about},
            once=method == "attribution_patching",
            **options,
        )
    found = replace(found, passes=found.passes + spent)
    if nodes == "features":  # AtP* needs the heads between its features, and its answer is about the features
        found = _features_of(found)
        asked = Question(
            model,
            saes,
            batches,
            metric,
            edges,
            positions,
            steps,
            max_features,
            budget,
            push,
            behaviour,
            max_tokens,
        )
        found = joined(found, asked)
    return _with_conventions(found, baseline)


def _prompts(clean: torch.Tensor, corrupt: torch.Tensor | None, baseline: str | None) -> PairBatch:
    index = torch.arange(len(clean))
    if baseline is None:
        if corrupt is None:
            raise UserError(
                "no corrupt prompts",
                expected="token ids (prompt, pos) of as many tokens as the clean ones",
                cure=f"or a baseline that needs no pair: {', '.join(BASELINES)}",
            )
        return PairBatch(clean, corrupt, index)
    return PairBatch(clean, clean, index, Baseline(baseline, clean if corrupt is None else corrupt))


def _with_conventions(result: AttributionResult, baseline: str | None) -> AttributionResult:
    if baseline is None:
        return result
    where = (
        result.conventions.get("gradient", "")
        .replace("corrupt", "clean")
        .replace("from clean to clean", "from baseline to clean")
    )
    return replace(
        result,
        conventions={
            **result.conventions,
            "baseline": f"{baseline}, no aligned pair",
            "gradient": where,
            "sign": "positive: the node's clean value instead of its baseline raises the metric",
        },
    )


def _graph_methods(steps: int | None) -> dict[str, tuple[BatchMethod, dict[str, str]]]:
    steps = STEPS if steps is None else steps
    path = f"averaged over {steps} midpoints between the corrupt and the clean embeddings"
    return {
        "attribution_patching": (by_points(corrupt_point), {}),
        "integrated_gradients": (by_points(partial(input_path, steps=steps)), {"gradient": path}),
        "relp": (relp, {"gradient": "corrupt run, rules of relevance propagation"}),
        "atp_star": (
            atp_star,
            {"gradient": "corrupt run; softmax of queries and keys exact; GradDrop over blocks"},
        ),
    }


def _graph(
    model: Any,
    batches: Sequence[PairBatch],
    metric: Metric,
    saes: Mapping[str, Any] | None,
    max_features: int,
) -> tuple[Graph, int]:
    """The graph of all components and, where there are SAEs, of their strongest features; and the passes
    spent on choosing.
    """
    anatomy = open_anatomy(model, batches[0].corrupt)
    if not saes:
        return component_graph(anatomy), 0
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    found = attribution_patching(model, saes, batches, metric)
    chosen: dict[str, list[int]] = {site: [] for site in dictionaries}
    for place in strongest(found, max_features):
        node = parse_node(found.nodes[place])
        if node.kind == "feature":
            chosen[node.site].append(node.feature)
    parts = [Features(dictionaries[site], sorted(features)) for site, features in chosen.items()]
    return component_graph(anatomy, parts), found.passes


def _features_of(result: AttributionResult) -> AttributionResult:
    """The features and errors of a mixed result."""
    kept = [place for place, node in enumerate(result.nodes) if parse_node(node).kind != "component"]
    return replace(
        result, nodes=tuple(result.nodes[place] for place in kept), effects=result.effects[:, kept], slots=()
    )
