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

from jaxtyping import Float
from torch import Tensor

from emocircuits.errors import Failure
from emocircuits.graphs.components import Graph
from emocircuits.graphs.parts import Pair
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.hooks import hooked
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.passes.record import differentiate

EPSILON = 1e-6
NORMS = ("ln1", "ln1_post", "ln2", "ln2_post")


def relp(
    graph: Graph, chunk: PairBatch, pair: Pair, metric: Metric, *, edges: bool, max_tokens: int
) -> tuple[Float[Tensor, "prompt node"], Float[Tensor, "prompt edge"] | None, float]:
    """Effects of nodes and edges of one batch, and the passes spent: one differentiated pass on the corrupt
    prompts.

    What is taken through a norm on the way to an edge follows the rules, too.
    """
    with relp_rules(graph.anatomy):
        taps = graph.taps if edges else graph.node_taps
        point = differentiate(graph.anatomy, chunk.corrupt, metric, chunk.index, taps, unreached="zero")
        links = graph.edge_effects(pair, graph.seeds(point)) if edges else None
        return graph.node_effects(pair, point), links, 2.0


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
    behind.
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
