"""RelP: attribution patching with the rules of layer-wise relevance propagation instead of plain derivatives.

    norms        y = x / stopgrad(sigma)
    attention    pattern is constant: edges through queries and keys are zero by construction
    activation   y = x * stopgrad(f(x) / x)
    gate         y = u * v counts half towards each factor

The values stay what they are, only gradients change (Jafari et al. 2025, arXiv 2508.21258; rules of Achtibat
et al. 2024). On deep models with saturating parts these gradients are less noisy; what queries and keys do
they cannot see.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.attribution_patching import by_gradient
from emocircuits.attribution.methods.card import CONVENTIONS, METHODS, MethodCard, Request
from emocircuits.attribution.methods.gradients import collected, graph_of_components
from emocircuits.errors import Failure
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.gathered import Gathered
from emocircuits.passes.hooks import hooked
from emocircuits.passes.record import differentiate

EPSILON = 1e-6
NORMS = ("ln1", "ln1_post", "ln2", "ln2_post")


def relp(request: Request) -> AttributionResult:
    """Answers a request with gradients that follow the rules.

    What is taken through a norm on the way to an edge follows them, too.

    Raises:
        UserError: wrong shapes, a metric that is not differentiable, prompts without any difference.
        Failure: a model whose MLPs have no hook at their activation, NaN.
    """
    about = {"method": "relp", "gradient": f"{CONVENTIONS['gradient']}, rules of relevance propagation"}
    if request.nodes == "features":
        with relp_rules(request.task.anatomy):
            return by_gradient(request, about, steps=0)
    graph, spent = graph_of_components(request)
    task, gathered = graph.task, Gathered(graph.task, "attribution", graph.max_tokens)
    taps = graph.taps if request.edges else graph.node_taps
    for batch in gathered.shard():
        sides = graph.both_sides(batch)
        with relp_rules(task.anatomy):
            point = differentiate(task, batch.corrupt, batch.index, taps, unreached="zero")
            linear = graph.averaged(sides, iter([(1.0, point)]), edges=request.edges)
            links = [linear.edge_effects()] if request.edges else []
        gathered.keep(
            batch, sides.clean.metric, sides.corrupt.metric, linear.effects, *links, passes=linear.passes
        )
    return collected(graph, gathered, about, edges=request.edges, spent=spent)


@contextmanager
def relp_rules(anatomy: Anatomy) -> Iterator[None]:
    """Gradients follow the rules inside this context; values stay what they are."""
    hooks: list[tuple[str, Callable]] = []
    for layer in anatomy.layers:
        names = [f"{layer.hook(norm)}.hook_scale" for norm in NORMS] + [layer.hook("hook_pattern")]
        hooks += [(name, _constant) for name in names if name in anatomy.points]
        if layer.mlp is not None:
            hooks += _activation(anatomy, layer.number)
    if "ln_final.hook_scale" in anatomy.points:
        hooks.append(("ln_final.hook_scale", _constant))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the bridge says that an edited scale leaves Hugging Face's own norm
        with hooked(anatomy.model, anatomy.points, hooks):
            yield


def _constant(value: Tensor, hook: object) -> Tensor:
    return value.detach()


def _activation(anatomy: Anatomy, number: int) -> list[tuple[str, Callable]]:
    """Hooks of one MLP's activation: before, the factor it is multiplied by where there is one, and
    after.
    """
    pre, factor, post = (
        f"blocks.{number}.mlp.{name}" for name in ("hook_pre", "hook_pre_linear", "hook_post")
    )
    if pre not in anatomy.points or post not in anatomy.points:
        raise Failure(
            f"the MLP of block {number} has no {pre}",
            cure="use attribution_patching, which needs no rule for it",
        )
    held: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        return lambda value, hook: held.__setitem__(name, value) or value

    def rule(value: Tensor, hook: object) -> Tensor:
        parts = [held[name] for name in (pre, factor) if name in held]
        held.clear()
        # each factor x of the value y gets the gradient y / x, shared evenly; the value stays y
        linear = sum(part * (value / _apart(part)).detach() for part in parts) / len(parts)
        return value.detach() + linear - linear.detach()

    gated = [(factor, keep(factor))] if factor in anatomy.points else []
    return [(pre, keep(pre)), *gated, (post, rule)]


def _apart(x: Tensor) -> Tensor:
    """x, moved away from zero."""
    return x + EPSILON * (2 * (x >= 0).to(x.dtype) - 1)


METHODS.add(
    MethodCard(
        name="relp",
        summary="gradients that follow the rules of layer-wise relevance propagation",
        formula="<Δz, g> with patterns and norm scales constant, activations x·(f(x)/x) ratios constant, "
        "gates "
        "halved",
        gradient="corrupt run",
        passes="2 forwards + 1 backward",
        source="Jafari et al. 2508.21258",
        run=relp,
        positions=True,
    ),
)
