"""Attribution over the nodes of a graph (embeddings, heads, MLPs, features between them), by whatever method:
nodes and edges.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.graphs.components import Graph
from emocircuits.graphs.parts import Features, Pair
from emocircuits.graphs.parts.part import POSITIONS
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.record import Pass, differentiate, forward
from emocircuits.passes.shared import Shared

WRITTEN_BYTES = 1 << 29
Points = Callable[[Anatomy, PairBatch, Pair, Metric, Sequence[str]], Iterator[tuple[float, Pass]]]
"""(model, batch, both runs, metric, taps) -> weighted passes whose gradients are averaged; weights add up to
one.
"""
Effects = tuple[Float[Tensor, "prompt node"], Float[Tensor, "prompt edge"] | None, float]
BatchMethod = Callable[..., Effects]
"""(graph, batch, both runs, metric, edges=, max_tokens=) -> effects of nodes and edges, and the passes spent.
"""


def by_points(points: Points) -> BatchMethod:
    """The method that averages gradients over the points of a path."""

    def method(
        graph: Graph, chunk: PairBatch, pair: Pair, metric: Metric, *, edges: bool, max_tokens: int
    ) -> Effects:
        seeds, effect, passes = None, 0.0, 0.0
        for weight, point in points(
            graph.anatomy, chunk, pair, metric, graph.taps if edges else graph.node_taps
        ):
            effect = effect + weight * graph.node_effects(pair, point)
            seeds = graph.seeds(point, weight, seeds) if edges else None
            passes += 2
        return effect, graph.edge_effects(pair, seeds) if edges else None, passes

    return method


def graph_attribution(
    graph: Graph,
    batches: Sequence[PairBatch],
    metric: Metric,
    method: BatchMethod,
    conventions: dict[str, str],
    *,
    once: bool = False,
    edges: bool = True,
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of all nodes of a graph, and of all edges between them, per prompt.

    Args:
        graph: the graph.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        method: how effects are found.
        conventions: what the result says about itself.
        once: whether the method differentiates the corrupt run alone, which is then run once for both.
        edges: whether edges are wanted, too.
        behaviour: name stored in the result.
        max_tokens: tokens per pass.

    Raises:
        UserError: prompts that do not fit, or a metric that is not differentiable.
    """
    shared = Shared(batches, tokens_at_once(graph, max_tokens), "attribution")
    for chunk in shared.mine():
        pair, spent = (
            _differentiated(graph, chunk, metric, edges)
            if once and chunk.baseline is None
            else run_both(graph, chunk, metric)
        )
        effect, edge, passes = method(graph, chunk, pair, metric, edges=edges, max_tokens=max_tokens)
        shared.keep(
            chunk,
            pair.clean.metric,
            pair.corrupt.metric,
            effect,
            *([edge] if edges else []),
            passes=spent + passes,
        )
    (clean, corrupt, effects, *links), passes = shared.collect()
    found = EdgeEffects.of(*graph.pairs, links[0], len(graph.nodes)) if edges else None
    return AttributionResult(
        behaviour,
        graph.nodes,
        effects,
        clean,
        corrupt,
        conventions,
        passes=int(np.ceil(passes - 1e-9)),
        edges=found,
        slots=graph.slots,
    )


def run_both(graph: Graph, chunk: PairBatch, metric: Metric) -> tuple[Pair, int]:
    """Forward passes on both sides of a batch, and how many they are."""
    if chunk.baseline is not None:
        return _ablated(graph, chunk, metric), 2 + chunk.baseline.passes
    clean, corrupt = (
        forward(graph.anatomy, tokens, metric, chunk.index, graph.value_taps)
        for tokens in (chunk.clean, chunk.corrupt)
    )
    return Pair(clean, corrupt), 2


def _differentiated(graph: Graph, chunk: PairBatch, metric: Metric, edges: bool) -> tuple[Pair, int]:
    """Both sides of a batch with the gradient of the corrupt one, whose two passes are counted by who uses
    it.
    """
    clean = forward(graph.anatomy, chunk.clean, metric, chunk.index, graph.written_taps, skip_unread=True)
    taps = graph.taps if edges else graph.node_taps
    return Pair(
        clean,
        differentiate(graph.anatomy, chunk.corrupt, metric, chunk.index, taps, constants=graph.value_taps),
    ), 1


@torch.no_grad()
def _ablated(graph: Graph, chunk: PairBatch, metric: Metric) -> Pair:
    """The clean run, and the baseline of every hook; its metric is that of the stream without what all nodes
    write above it.
    """
    anatomy, features = graph.anatomy, [writer for writer in graph.writers if isinstance(writer, Features)]
    shared = chunk.baseline.name != "resample"

    def run(tokens: Tensor) -> dict[str, Tensor]:
        held = dict(forward(anatomy, tokens, _no_metric, torch.arange(len(tokens)), graph.value_taps).values)
        for writer in features if shared else ():
            held |= writer.parts(held)
        return held

    clean = forward(anatomy, chunk.clean, metric, chunk.index, graph.value_taps)
    own = dict(clean.values)
    for writer in features if shared else ():
        own |= writer.parts(own)
    values = chunk.baseline.values(run, own, chunk.clean)
    if anatomy.positions is not None:
        values[POSITIONS] = clean.values[anatomy.positions]
    pair = Pair(clean, Pass(values, {}, clean.metric), ablated=True)
    stream = clean.values[anatomy.last] - graph.written(pair)[:, graph.seen_by(graph.readers[-1])].sum(1)
    rest = forward(anatomy, chunk.clean, metric, chunk.index, changes={anatomy.last: lambda value: stream})
    return Pair(clean, Pass(values, {}, rest.metric), ablated=True)


def _no_metric(logits: Tensor) -> Float[Tensor, "prompt"]:
    return logits[:, -1, 0]


def tokens_at_once(graph: Graph, max_tokens: int) -> int:
    """Tokens per pass, fewer where what all nodes write would not fit into half a gigabyte."""
    width = len(graph.nodes) * graph.anatomy.model.cfg.d_model * 4
    return max(1, min(max_tokens, WRITTEN_BYTES // width))


def stacked(parts: Sequence[Tensor]) -> np.ndarray:
    """Results of several batches under one another."""
    return torch.cat(list(parts)).numpy(force=True)
