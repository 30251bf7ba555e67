"""Steering attribution: along which nodes does a push run to the metric? No prompt pair is needed.

A direction is added at a site with a strength that grows from 0 to its full amount. Nodes change from the
unsteered to the steered run, and gradients are averaged over midpoints of the strength,

    effect of a node    = < steered - unsteered value , mean over alpha of dM/dvalue(alpha) >
    edge(u -> v)        = < what u's change writes , mean over alpha of the gradient at what v reads >

so the edges that leave the direction are an exact split of its effect: into the logits directly (what the
unembedding makes of the push itself), and into each head's queries, keys and values and each MLP after the
site. They add up to M(steered) - M(unsteered) as the steps grow (`metric_clean` and `metric_corrupt` of the
result). For features after the push see `steered_features`.
"""

from dataclasses import replace

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.artifacts.push import Push
from emocircuits.attribution.methods.card import METHODS, MethodCard, Request
from emocircuits.attribution.methods.gradients import (
    collected,
    feature_effects,
    strongest,
    with_edges_of,
)
from emocircuits.attribution.methods.steered_features import feature_shares, steered_feature_sides
from emocircuits.errors import UserError
from emocircuits.graphs.components import ComponentGraph
from emocircuits.graphs.features import FeatureGraph, FeatureLinear
from emocircuits.graphs.steered import STEPS, PushedBatch, mean_difference, steered_graph
from emocircuits.names import NodeId, format_node, layer_of, parse_node
from emocircuits.passes.gathered import Gathered, whole_passes
from emocircuits.passes.task import Task

EMBEDDING = "blocks.0.hook_resid_pre"


def steering_attribution(request: Request) -> AttributionResult:
    """Answers a request: the corrupt prompts are pushed, the clean ones are read by the default push alone.

    Raises:
        UserError: no SAE at or after the push, streams that do not differ where no push is given.
        Failure: the push changed nothing.
    """
    steps = METHODS.get("steering").steps_for(request)
    if request.nodes == "features":
        return _among_features(request, steps)
    push = request.push or mean_difference(request.task, EMBEDDING)
    strong, spent = [], 0
    if request.nodes == "mixed":
        found = feature_effects(request.task, {})
        strong, spent = [found.nodes[place] for place in strongest(found, request.max_features)], found.passes
    task = request.task if strong else request.task.with_saes({})
    features = [node for node in strong if parse_node(node).kind == "feature"]
    found = steered_effects(steered_graph(task, push, features), push, steps=steps, edges=request.edges)
    return replace(found, passes=found.passes + spent)


def steered_effects(
    graph: ComponentGraph, push: Push, *, steps: int = STEPS, edges: bool = True
) -> AttributionResult:
    """Effects of a push, of every node after it, and the edges between them.

    Args:
        graph: the graph after the push (`steered_graph`).
        push: the direction.
        steps: midpoints of the strength.
        edges: whether edges are wanted, too.

    Returns:
        `metric_clean` is the steered metric, `metric_corrupt` the unsteered one. Nodes that the push cannot
        reach have effect 0.
    """
    task, gathered = graph.task, Gathered(graph.task, "steering attribution", graph.max_tokens)
    for batch in gathered.shard():
        pushed = PushedBatch.of(task, batch, push)
        sides = pushed.sides(graph.value_taps)
        linear = graph.averaged(sides, pushed.points(graph.taps, steps, skip_unread=True), edges=edges)
        links = [linear.edge_effects()] if edges else []
        gathered.keep(
            batch, sides.clean.metric, sides.corrupt.metric, linear.effects, *links, passes=linear.passes
        )
    return collected(graph, gathered, conventions(push, steps), edges=edges)


def conventions(push: Push, steps: int) -> dict[str, str]:
    """What a result of steering says about itself."""
    return {
        "method": "steering",
        "sign": "positive: what the push changes raises the metric",
        "baseline": "unsteered run",
        "gradient": f"averaged over {steps} midpoints of the strength",
        "positions": "summed",
        "site": push.site,
    }


def _among_features(request: Request, steps: int) -> AttributionResult:
    """The features and errors of the sites at or after the push."""
    first = next(iter(request.task.dictionaries))
    push = request.push or mean_difference(request.task, f"blocks.{layer_of(first)}.hook_resid_pre")
    task = request.task.at_sites(_sites_after(request.task, push))
    found = feature_shares(task, push, steps=steps)
    names, effects = [], []
    for site, shares in found.sites.items():
        for part in np.flatnonzero((shares != 0).any(0)):
            error = part == task.dictionaries[site].d_sae
            kind, feature = ("error", None) if error else ("feature", int(part))
            names.append(format_node(NodeId(kind, site=site, feature=feature)))
            effects.append(shares[:, part])
    remainder = {site: float(found.remainder(site).mean()) for site in found.sites}
    about = {
        **conventions(push, steps),
        "push": push.name,
        "remainder": ", ".join(f"{site} {value:.3g}" for site, value in remainder.items()),
    }
    result = AttributionResult(
        task.behaviour,
        tuple(names),
        np.stack(effects, axis=1),
        found.steered,
        found.plain,
        about,
        found.passes,
    )
    return _with_edges(result, task, push, steps, request.max_features) if request.edges else result


def _with_edges(
    result: AttributionResult, task: Task, push: Push, steps: int, most: int
) -> AttributionResult:
    chosen = np.sort(strongest(result, most))
    graph = FeatureGraph(task, tuple(result.nodes[place] for place in chosen))
    graph.refuse_side_branches()
    gathered = Gathered(task, "edges")
    for batch in gathered.shard():
        linear = FeatureLinear(graph, steered_feature_sides(task, batch, push, steps))
        gathered.keep(batch, linear.edge_effects(), passes=linear.passes + linear.edge_passes)
    (links,), passes = gathered.collect()
    drawn = replace(
        result,
        nodes=graph.nodes,
        effects=result.effects[:, chosen],
        edges=EdgeEffects.of(*graph.pairs, links, len(graph.nodes)),
        slots=graph.slots,
        passes=whole_passes(passes),
    )
    return with_edges_of(result, chosen, drawn)


def _sites_after(task: Task, push: Push) -> list[str]:
    """Sites of the SAEs at or after the push.

    Raises:
        UserError: there is none.
    """
    order = {"hook_resid_pre": 0, "hook_resid_mid": 2, "hook_resid_post": 4}

    def place(site: str) -> int:
        return 4 * layer_of(site) + order.get(site.rsplit(".", 1)[1], 1)

    after = [site for site in task.dictionaries if place(site) >= place(push.site)]
    if not after:
        raise UserError(
            f"no SAE at or after the push at {push.site}",
            expected=f"a push before {', '.join(task.dictionaries)}",
        )
    return after


METHODS.add(
    MethodCard(
        name="steering",
        summary="along which nodes a push along a direction runs to the metric",
        formula="features: ∫ dM/df · df/dα dα by reverse and forward mode; "
        "components: <z_steered − z, mean_k g(α_k)>",
        gradient="corrupt prompts with α of the push",
        passes=f"2 + 4·m, m = {STEPS}",
        source="Macar et al. 2603.21396",
        run=steering_attribution,
        references=False,
        pairs=False,
        steps=(("features", STEPS), ("components", STEPS)),
    ),
)
