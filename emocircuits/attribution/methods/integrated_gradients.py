"""Integrated gradients: attribution patching where one gradient is not enough.

    effect of a node = < clean - corrupt value, mean over alpha of the gradient >,   alpha = (k + 1/2) / steps

For features each site's stream is moved along the straight line from its corrupt to its clean value
(`graphs.feature_sides`), for components the embeddings are (`graphs.components.input_path`).
"""

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.attribution_patching import by_gradient
from emocircuits.attribution.methods.card import METHODS, MethodCard, Request

FEATURE_STEPS, COMPONENT_STEPS = 8, 5


def integrated_gradients(request: Request) -> AttributionResult:
    """Answers a request with gradients averaged along a path.

    Raises:
        UserError: `steps` below 1, wrong shapes, a metric that is not differentiable, prompts without any
            difference.
        Failure: a gradient that is missing, NaN or infinite.
    """
    steps = METHODS.get("integrated_gradients").steps_for(request)
    gradient = (
        f"mean over {steps} midpoints from corrupt to clean"
        if request.nodes == "features"
        else f"averaged over {steps} midpoints between the corrupt and the clean embeddings"
    )
    return by_gradient(
        request, {"method": "integrated_gradients", "gradient": gradient, "steps": str(steps)}, steps=steps
    )


METHODS.add(
    MethodCard(
        name="integrated_gradients",
        summary="the gradient averaged over midpoints between corrupt and clean",
        formula="<Δz, mean_k g(α_k)>, α_k = (k + ½)/m",
        gradient=f"features: each site's stream on the line from corrupt to clean, m = {FEATURE_STEPS}; "
        "components: the "
        f"embeddings on that line, m = {COMPONENT_STEPS}",
        passes="2 + 2·m (times sites for features)",
        source="Sundararajan et al. 2017; Hanna et al. 2403.17806 (who use end points, we midpoints)",
        run=integrated_gradients,
        positions=True,
        steps=(("features", FEATURE_STEPS), ("components", COMPONENT_STEPS)),
    ),
)
