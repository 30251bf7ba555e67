"""Attribution patching: every node at every site for 2 forward passes + 1 backward pass.

    effect of a node = < clean - corrupt value, gradient of the metric there >

with the gradient on the corrupt run (TransformerLens' sign): positive means that patching the clean value
into the corrupt run raises the metric. On a linear model the effects equal those of real patches (Nanda 2023;
Marks et al. 2024, who take the gradient at the clean run and so have the opposite sign).
"""

from dataclasses import replace

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.card import METHODS, MethodCard, Request
from emocircuits.attribution.methods.gradients import (
    feature_effects,
    graph_effects,
    graph_of_components,
    strongest,
    with_feature_edges,
)
from emocircuits.passes.gathered import whole_passes


def attribution_patching(request: Request) -> AttributionResult:
    """Answers a request with the gradient of the live run.

    Raises:
        UserError: wrong shapes, a metric that is not differentiable, SAEs that do not fit, prompts without
            any difference.
        Failure: NaN.
    """
    return by_gradient(request, {"method": "attribution_patching"}, steps=0)


def by_gradient(request: Request, conventions: dict[str, str], *, steps: int) -> AttributionResult:
    """Answers a request with the gradient of the live run, or averaged over so many midpoints."""
    if request.nodes != "features":
        graph, spent = graph_of_components(request)
        found = graph_effects(graph, conventions, steps=steps, edges=request.edges)
        return replace(found, passes=whole_passes(found.passes + spent))
    found = feature_effects(request.task, conventions, steps=steps, positions=request.positions)
    if not request.edges:
        return found
    return with_feature_edges(found, request.task, strongest(found, request.max_features), steps=steps)


METHODS.add(
    MethodCard(
        name="attribution_patching",
        summary="gradient at the corrupt run times the clean - corrupt difference",
        formula="<Δz, g>",
        gradient="corrupt run",
        passes="2 forwards + 1 backward",
        source="Nanda 2023; Syed et al. 2310.10348; features: Marks et al. 2403.19647",
        run=attribution_patching,
        positions=True,
    ),
)
