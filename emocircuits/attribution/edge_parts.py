"""What an edge between features runs through: each head, each MLP, or nothing but the stream.

An edge u -> d between adjacent sites is <seed_d, J delta_u>, with J everything the model computes between the
two sites. By the chain rule the gradient at the upper site is a sum over what reads the stream there: later
additions alone (`direct`), the queries, keys and values of each head between the sites, and each MLP. So

    edge(u -> d) = <seed_d, delta_u> + sum over slots v between the sites of < gradient of <seed_d, x_down> at
    what v reads, delta_u >

exactly. A part belongs to the slot that reads u *first*: what a head hands to a later MLP is the head's.
`a1.h0<v>` is what the head moves with its pattern as it is, `a1.h0<q>` and `a1.h0<k>` what u does to where it
looks. An edge into `logits` is split over the blocks behind the last site, with the final norm and the
unembedding in `direct`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.attribution.edges import Seeds
from emocircuits.attribution.methods.integrated_gradients import with_path_gradients
from emocircuits.errors import UserError
from emocircuits.graphs.components import component_graph
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.nodes import deltas, nodes_by_site
from emocircuits.graphs.parts import Features, Reader
from emocircuits.graphs.parts.window import EVERYTHING
from emocircuits.graphs.slopes import SLOPE_LIMIT
from emocircuits.names import TARGET, parse_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.anatomy import Anatomy, open_anatomy
from emocircuits.passes.last_position import run_metric
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.record import Pass, tapped
from emocircuits.passes.shared import Shared
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

DIRECT = "direct"


def edge_parts(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    edges: Sequence[tuple[str, str]],
    *,
    slope_limit: float = SLOPE_LIMIT,
    steps: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> pd.DataFrame:
    """Parts of edges by what they run through.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE, as for `edge_effects`.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        edges: pairs of node ids of adjacent sites; a node of the last site may end in `logits`.
        slope_limit, steps: as for `edge_effects`; edges into `logits` know no steps.
        max_tokens: tokens per pass.

    Returns:
        `source`, `target`, `part` (`direct`, `a1.h0<q>`, `a1.h0<k>`, `a1.h0<v>`, `m1`), `effect` with its
        interval over prompts; the effects of an edge's parts add up to the edge. Strongest part first within
        an edge.

    Raises:
        UserError: no edge, an edge between other sites, or a site that is not the residual stream.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    _check(edges, dictionaries, steps)
    anatomy = open_anatomy(model, batches[0].corrupt)
    targets = list(dict.fromkeys(target for _, target in edges))
    shared = Shared(batches, max_tokens, "edge parts")
    for chunk in shared.mine():
        run = run_pair(model, dictionaries, chunk, metric)
        run = with_path_gradients(model, run, metric, steps) if steps else run
        shared.keep(
            chunk,
            *(
                _parts(
                    anatomy,
                    dictionaries,
                    run,
                    metric,
                    [source for source, end in edges if end == target],
                    target,
                    slope_limit,
                )
                for target in targets
            ),
        )
    tables, found = [], shared.collect()[0]
    for target, values in zip(targets, found, strict=True):  # (prompt, source, part)
        up = parse_node(next(source for source, end in edges if end == target)).site
        readers = _between(anatomy, dictionaries, up, target)
        names = (DIRECT, *(slot for reader in readers for slot in reader.slots))
        low, high = bootstrap_interval(values)
        for place, source in enumerate(source for source, end in edges if end == target):
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


def _check(edges: Sequence[tuple[str, str]], dictionaries: Mapping[str, Dictionary], steps: int) -> None:
    if not edges:
        raise UserError("no edge to take apart")
    sites = list(dictionaries)
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
    anatomy: Anatomy,
    dictionaries: Mapping[str, Dictionary],
    run: PairRun,
    metric: Metric,
    sources: Sequence[str],
    target: str,
    limit: float,
) -> Float[Tensor, "prompt source part"]:
    """Parts of all edges into one target."""
    up = parse_node(sources[0]).site
    down = anatomy.last if target == TARGET else parse_node(target).site
    readers = _between(anatomy, dictionaries, up, target)
    taps = tuple(dict.fromkeys([up, down, *(tap for reader in readers for tap in reader.read_taps)]))
    seed = (
        None
        if target == TARGET
        else Seeds(run.sites[down], limit)(nodes_by_site([target], dictionaries)[down])[0]
    )
    with (
        torch.enable_grad(),
        tapped(anatomy, taps, {up: lambda value: value.detach().requires_grad_()}) as seen,
    ):
        value = run_metric(anatomy.model, run.batch.corrupt, metric, run.batch.index)
        if target == TARGET:
            (seed,) = torch.autograd.grad(value.sum(), seen[down], retain_graph=True)
        taps = [tap for tap in taps if seen[tap].requires_grad]
        grads = torch.autograd.grad(
            seen[down], [seen[tap] for tap in taps], seed.to(seen[down].dtype), allow_unused=True
        )
    held = {name: value.detach() for name, value in seen.items()}
    slopes = {name: torch.zeros_like(value) for name, value in held.items()}
    slopes |= {tap: grad for tap, grad in zip(taps, grads, strict=True) if grad is not None}
    point = Pass(held, slopes, run.metric_live)
    parts = [reader.seeds(point, 1.0) for reader in readers]
    seeds, first = held[down].new_empty(1 + sum(len(reader.slots) for reader in readers), *seed.shape), 1
    seeds[0] = seed
    for reader, part in zip(readers, parts, strict=True):
        part.fill(slice(0, len(reader.slots)), EVERYTHING, seeds[first : first + len(reader.slots)])
        first += len(reader.slots)
    change = deltas(run.sites[up], nodes_by_site(sources, dictionaries)[up])
    return torch.einsum("sptd,vptd->psv", change.to(seeds), seeds)


def _between(anatomy: Anatomy, dictionaries: Mapping[str, Dictionary], up: str, target: str) -> list[Reader]:
    """What reads the stream behind a site and before the target."""
    first = Features(dictionaries[up], []).writes_at
    last = float("inf") if target == TARGET else Features(dictionaries[parse_node(target).site], []).reads_at
    return [reader for reader in component_graph(anatomy).readers if first < reader.reads_at < last]
