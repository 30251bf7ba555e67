"""What an edge between features runs through: each head, each MLP, or nothing but the stream.

An edge u -> d between adjacent sites is <seed_d, J delta_u>, with J everything the model computes between the
two sites. By the chain rule the gradient at the upper site is a sum over what reads the stream there: later
additions alone (`direct`), the queries, keys and values of each head between the sites, and each MLP. So

    edge(u -> d) = <seed_d, delta_u> + sum over slots v between the sites of < gradient of <seed_d, x_down> at
    what v reads, delta_u >

exactly. A part belongs to the slot that reads u *first*: what a head hands to a later MLP is the head's.
`a1.h0<v>` is what the head moves with its pattern as it is, `a1.h0<q>` and `a1.h0<k>` what u does to where it
looks. An edge into `logits` is split over the blocks after the last site, with the final norm and the
unembedding in `direct`.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.components import component_graph
from emocircuits.graphs.feature_sides import FeatureSides, feature_sides, with_path_gradients
from emocircuits.graphs.features import SlotGradients
from emocircuits.graphs.parts import Features, Reader
from emocircuits.graphs.site_nodes import deltas, nodes_by_site
from emocircuits.graphs.slopes import SLOPE_LIMIT
from emocircuits.names import TARGET, parse_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.gathered import Gathered
from emocircuits.passes.metric import run_metric
from emocircuits.passes.record import Pass, tapped
from emocircuits.passes.task import Task
from emocircuits.passes.window import EVERYTHING

DIRECT = "direct"


def edge_parts(
    task: Task, edges: Sequence[tuple[str, str]], *, slope_limit: float = SLOPE_LIMIT, steps: int = 0
) -> pd.DataFrame:
    """Parts of edges by what they run through.

    Args:
        task: the model, its SAEs, the prompts and the metric.
        edges: pairs of node ids of adjacent sites; a node of the last site may end in `logits`.
        slope_limit: bound of the secant slope (`graphs.features`).
        steps: midpoints of the gradients that the edges go with; edges into `logits` know no steps.

    Returns:
        `source`, `target`, `part` (`direct`, `a1.h0<q>`, `a1.h0<k>`, `a1.h0<v>`, `m1`), `effect` with its
        interval over prompts; the effects of an edge's parts add up to the edge. Strongest part first within
        an edge.

    Raises:
        UserError: no edge, an edge between other sites, or a site that is not the residual stream.
    """
    _check(edges, task, steps)
    sources_of: dict[str, list[str]] = {}
    for source, target in edges:
        sources_of.setdefault(target, []).append(source)
    gathered = Gathered(task, "edge parts")
    for batch in gathered.shard():
        sides = feature_sides(task, batch)
        sides = with_path_gradients(task, sides, steps) if steps else sides
        gathered.keep(
            batch,
            *(_parts(task, sides, sources, target, slope_limit) for target, sources in sources_of.items()),
        )
    tables = []
    for (target, sources), values in zip(sources_of.items(), gathered.collect()[0], strict=True):
        readers = _between(task, str(parse_node(sources[0]).site), target)
        names = (DIRECT, *(slot for reader in readers for slot in reader.slots))
        low, high = bootstrap_interval(values)  # (prompt, source, part)
        for place, source in enumerate(sources):
            table = pd.DataFrame(
                {
                    "source": source,
                    "target": target,
                    "part": names,
                    "effect": values[:, place].mean(0),
                    "ci_low": low[place],
                    "ci_high": high[place],
                }
            )
            tables.append(table.sort_values("effect", key=abs, ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)


def _check(edges: Sequence[tuple[str, str]], task: Task, steps: int) -> None:
    if not edges:
        raise UserError("no edge to take apart")
    sites = list(task.dictionaries)
    beside = [site for site in sites if "hook_resid" not in site]
    if beside:
        raise UserError(
            f"edges at {', '.join(beside)}",
            expected="sites of the residual stream, through which all paths run",
        )
    following = dict(zip(sites, [*sites[1:], TARGET], strict=True))
    for source, target in edges:
        down = target if target == TARGET else parse_node(target).site
        if following.get(parse_node(source).site) != down:
            raise UserError(
                f"the edge {source} -> {target}",
                expected="nodes of adjacent sites, or of the last site and the logits",
            )
        if steps and target == TARGET:
            raise UserError(
                f"the edge {source} -> {target} over {steps} steps",
                expected="steps=0: it is a node's whole effect",
            )


def _parts(
    task: Task, sides: FeatureSides, sources: Sequence[str], target: str, limit: float
) -> Float[Tensor, "prompt source part"]:
    """Parts of all edges into one target."""
    up = parse_node(sources[0]).site
    down = task.anatomy.last if target == TARGET else parse_node(target).site
    readers = _between(task, up, target)
    taps = tuple(dict.fromkeys([up, down, *(tap for reader in readers for tap in reader.read_taps)]))
    seed = (
        None
        if target == TARGET
        else SlotGradients(sides.sites[down], limit)(nodes_by_site([target], task.dictionaries)[down])[0]
    )
    with (
        torch.enable_grad(),
        tapped(task.anatomy, taps, {up: lambda value: value.detach().requires_grad_()}) as seen,
    ):
        value = run_metric(task.model, sides.batch.corrupt, task.metric, sides.batch.index)
        if target == TARGET:
            (seed,) = torch.autograd.grad(value.sum(), seen[down], retain_graph=True)
        taps = [tap for tap in taps if seen[tap].requires_grad]
        grads = torch.autograd.grad(
            seen[down], [seen[tap] for tap in taps], seed.to(seen[down].dtype), allow_unused=True
        )
    held = {name: value.detach() for name, value in seen.items()}
    slopes = {name: torch.zeros_like(value) for name, value in held.items()}
    slopes |= {tap: grad for tap, grad in zip(taps, grads, strict=True) if grad is not None}
    point = Pass(held, slopes, sides.live.metric)
    parts = [reader.read_gradients(sides, point, 1.0) for reader in readers]
    seeds, first = held[down].new_empty(1 + sum(len(reader.slots) for reader in readers), *seed.shape), 1
    seeds[0] = seed
    for reader, part in zip(readers, parts, strict=True):
        part.fill(slice(0, len(reader.slots)), EVERYTHING, seeds[first : first + len(reader.slots)])
        first += len(reader.slots)
    change = deltas(sides.sites[up], nodes_by_site(sources, task.dictionaries)[up]).dense()
    return torch.einsum("sptd,vptd->psv", change.to(seeds), seeds)


def _between(task: Task, up: str, target: str) -> list[Reader]:
    """What reads the stream after a site and before the target."""
    first = Features(task.dictionaries[up], []).writes_at
    last = (
        float("inf")
        if target == TARGET
        else Features(task.dictionaries[str(parse_node(target).site)], []).reads_at
    )
    readers = component_graph(task.with_saes({})).readers
    return [reader for reader in readers if first < reader.reads_at < last]
