"""Steering attribution: along which nodes does a push run to the metric? No prompt pair is needed.

A direction is added at a site with a strength that grows from 0 to its full amount. Nodes change from the
unsteered to the steered run, and gradients are averaged over midpoints of the strength,

    effect of a node    = < steered - unsteered value , mean over alpha of dM/dvalue(alpha) >
    edge(u -> v)        = < what u's change writes , mean over alpha of the gradient at what v reads >

so the edges that leave the direction are an exact split of its effect: into the logits directly (what the
unembedding makes of the push itself), and into each head's queries, keys and values and each MLP behind the
site. They add up to M(steered) - M(unsteered) as the steps grow (`metric_clean` and `metric_corrupt` of the
result). For the features of later sites see `attribution.steered_features`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.artifacts.push import Push
from emocircuits.attribution.components import tokens_at_once
from emocircuits.errors import Failure, UserError
from emocircuits.graphs.components import Graph, component_graph
from emocircuits.graphs.parts import Features, Injection, Pair
from emocircuits.passes.anatomy import Anatomy, open_anatomy
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, chunks
from emocircuits.passes.record import Pass, differentiate, forward
from emocircuits.passes.shared import Shared

STEPS = 8


def steering_attribution(
    model: Any,
    batches: Sequence[PairBatch],
    metric: Metric,
    push: Push,
    *,
    features: Sequence[Features] = (),
    edges: bool = True,
    steps: int = STEPS,
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of the push, of every component and of given features behind it, and the edges between them,
    per prompt.

    Args:
        model: any TransformerLens object.
        batches: prompts (their corrupt side is what is steered; the clean side is not read).
        metric: logits -> one value per prompt.
        push: the direction.
        features: parts of SAE features at later sites that become nodes, too.
        edges: whether edges are wanted, too.
        steps: midpoints of the strength.
        behaviour: name stored in the result.
        max_tokens: tokens per pass.

    Returns:
        `metric_clean` is the steered metric, `metric_corrupt` the unsteered one. Nodes that the push cannot
        reach have effect 0.
    """
    anatomy = open_anatomy(model, batches[0].corrupt)
    graph = steered_graph(anatomy, push, features)
    shared = Shared(batches, tokens_at_once(graph, max_tokens), "steering attribution")
    for chunk in shared.mine():
        pair = steered_pair(graph, chunk, metric, push)
        effect, seeds = 0.0, None
        for weight, point in steering_path(graph, chunk, metric, push, steps):
            effect = effect + weight * graph.node_effects(pair, point)
            seeds = graph.seeds(point, weight, seeds) if edges else None
        links = [graph.edge_effects(pair, seeds)] if edges else []
        shared.keep(chunk, effect, pair.clean.metric, pair.corrupt.metric, *links, passes=2 + 2 * steps)
    (effects, steered, plain, *links), passes = shared.collect()
    found = EdgeEffects.of(*graph.pairs, links[0], len(graph.nodes)) if edges else None
    conventions = {
        "method": "steering",
        "sign": "positive: what the push changes raises the metric",
        "baseline": "unsteered run",
        "gradient": f"averaged over {steps} midpoints of the strength",
        "positions": "summed",
        "site": push.site,
    }
    return AttributionResult(
        behaviour,
        graph.nodes,
        effects,
        steered,
        plain,
        conventions,
        passes=int(np.ceil(passes - 1e-9)),
        edges=found,
        slots=graph.slots,
    )


def steered_graph(anatomy: Anatomy, push: Push, features: Sequence[Features] = ()) -> Graph:
    """The components and features behind a push, and the push."""
    start = Injection(push.name, push.site, push.vector)
    whole = component_graph(anatomy, features)
    writers = [writer for writer in whole.writers if writer.writes_at > start.writes_at]
    readers = [reader for reader in whole.readers if reader.reads_at > start.writes_at]
    return Graph(anatomy, (start, *writers), tuple(readers))


def steered_pair(
    graph: Graph, chunk: PairBatch, metric: Metric, push: Push, taps: Iterable[str] = ()
) -> Pair:
    """Forward passes with (as the clean side) and without the push; `taps` are kept besides what the graph
    needs.

    Raises:
        Failure: the push changed nothing.
    """
    taps = tuple(dict.fromkeys([*graph.value_taps, push.site, *taps]))
    plain = forward(graph.anatomy, chunk.corrupt, metric, chunk.index, taps)
    steered = forward(graph.anatomy, chunk.corrupt, metric, chunk.index, taps, changes=push.change(1.0))
    if torch.equal(plain.values[push.site], steered.values[push.site]):
        raise Failure(
            f"pushing along {push.name} at {push.site} changed nothing",
            cure="check the strength and the site",
        )
    return Pair(steered, plain)


def steering_path(
    graph: Graph, chunk: PairBatch, metric: Metric, push: Push, steps: int, taps: Iterable[str] = ()
) -> Iterator[tuple[float, Pass]]:
    """Differentiated passes at the midpoints of the strength, with equal weights; `taps` besides what the
    graph needs.
    """
    taps = tuple(dict.fromkeys([*graph.taps, *taps]))
    for step in range(steps):
        changes = push.change((step + 0.5) / steps)
        yield (
            1 / steps,
            differentiate(graph.anatomy, chunk.corrupt, metric, chunk.index, taps, changes=changes),
        )


def mean_difference(model: Any, batches: Sequence[PairBatch], metric: Metric, site: str) -> Push:
    """The push from corrupt to clean: the mean difference of the streams at a site, over prompts and
    positions.

    Raises:
        UserError: streams that do not differ on average.
    """
    anatomy, total, count = open_anatomy(model, batches[0].corrupt), 0.0, 0
    for chunk in chunks(batches):
        streams = [
            forward(anatomy, tokens, metric, chunk.index, (site,)).values[site]
            for tokens in (chunk.clean, chunk.corrupt)
        ]
        total, count = total + (streams[0] - streams[1]).sum((0, 1)), count + chunk.clean.numel()
    if float(total.norm()) == 0.0:
        raise UserError(
            f"clean and corrupt streams do not differ at {site} on average",
            cure="give a push: Push(name, site, vector)",
        )
    return Push("clean-corrupt", site, total / count)
