"""Real patches of edges between features and errors of adjacent sites: what runs through one downstream node
alone.

The upstream node takes its clean value in the corrupt run, and everything up to the next site is computed
anew. Of all that changed there, only the downstream node's own activation (or the error vector) is put into a
second corrupt run:

    edge(u -> d) = M(corrupt run with d as it answers to u) - M(corrupt run)

Prompts with a baseline are patched the other way, in the clean run. The upstream runs are shared by all edges
of a node, so an edge costs one pass and a share of another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.attribution.methods.exact_patching import exact_patching
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.nodes import SiteNodes, deltas, nodes_by_site, position_mask
from emocircuits.interventions.patch import add
from emocircuits.names import TARGET, is_stream, parse_node
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.resume import resume
from emocircuits.passes.shared import Shared
from emocircuits.sae.dictionary import Dictionary, open_dictionaries


def exact_edges(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    edges: Sequence[tuple[str, str]],
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> tuple[Float[np.ndarray, "prompt edge"], int]:
    """Effects of real patches of edges, per prompt, and the passes spent.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE; adjacent means adjacent among these sites.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        edges: pairs of node ids of adjacent sites; a node of the last site may end in `logits`.
        max_tokens: tokens per pass.

    Raises:
        UserError: an edge between other sites.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    sites = list(dictionaries)
    following = dict(zip(sites, [*sites[1:], TARGET], strict=True))
    for source, target in edges:
        down = target if target == TARGET else parse_node(target).site
        if following.get(parse_node(source).site) != down:
            raise UserError(
                f"the edge {source} -> {target}",
                expected="nodes of adjacent sites, or of the last site and the logits",
            )
    ends = sorted({source for source, target in edges if target == TARGET})
    direct = exact_patching(model, saes, batches, metric, nodes=ends, max_tokens=max_tokens) if ends else None
    by_source: dict[str, list[int]] = {}
    for number, (source, target) in enumerate(edges):
        if target != TARGET:
            by_source.setdefault(source, []).append(number)
    shared = Shared(batches, max_tokens, "exact edges")
    for chunk in shared.mine():
        run = run_pair(model, dictionaries, chunk, metric, gradient=False)
        part = run.metric_corrupt.new_zeros(len(chunk), len(edges))
        rows, metric_from = run.passes * len(chunk), FromSite.of(model, metric, chunk)
        for source, numbers in by_source.items():
            rows += _from_one(
                metric_from, dictionaries, run, source, following, edges, numbers, part, max_tokens
            )
        shared.keep(chunk, part, passes=rows / len(chunk))
    (values,), passes = shared.collect()
    if direct is not None:
        place = {node: number for number, node in enumerate(direct.nodes)}
        for number, (source, target) in enumerate(edges):
            if target == TARGET:
                values[:, number] = direct.effects[:, place[source]]
        passes += direct.passes
    return values, int(np.ceil(passes - 1e-9))


@torch.no_grad()
def _from_one(
    metric_from: FromSite,
    dictionaries: Mapping[str, Dictionary],
    run: PairRun,
    source: str,
    following: Mapping[str, str],
    edges: Sequence[tuple[str, str]],
    numbers: list[int],
    out: Tensor,
    max_tokens: int,
) -> int:
    """Fills in the edges of one source; returns how many prompts were run."""
    up = parse_node(source).site
    down, n_prompts = following[up], len(run.batch)
    delta = deltas(run.sites[up], nodes_by_site([source], dictionaries)[up])[0]
    targets = nodes_by_site([edges[number][1] for number in numbers], dictionaries)[down]
    change = answers(
        dictionaries[down],
        run.sites[down].live,
        _onward(metric_from.model, run, up, run.sign * delta, down),
        targets,
    )
    # the nodes come back in the order they were given in
    rows = [(place, prompt) for place in range(len(targets)) for prompt in range(n_prompts)]
    block = max(1, max_tokens // run.batch.corrupt.shape[1])
    for first in range(0, len(rows), block):
        places, prompts = (
            torch.tensor(part, device=delta.device) for part in zip(*rows[first : first + block], strict=True)
        )
        live, index = run.sites[down].live[prompts], run.batch.index[prompts.to(run.batch.index.device)]
        values = metric_from(
            run.batch.corrupt[prompts], index, down, live + change[places, prompts].to(live.dtype)
        )
        columns = torch.tensor(numbers, device=delta.device)[places]
        out[prompts, columns] = run.sign * (values - run.metric_live[prompts])
    return n_prompts + len(rows)


def _onward(
    model: Any, run: PairRun, up: str, delta: Float[Tensor, "prompt pos d_model"], down: str
) -> Float[Tensor, "prompt pos d_model"]:
    """The live stream at a lower site when `delta` is added at an upper one; where both are streams only the
    blocks between them run.
    """
    if is_stream(up) and is_stream(down):
        return resume(model, run.batch.corrupt, up, run.sites[up].live + delta, until=down)
    seen: list[Tensor] = []
    with (
        model.hooks(fwd_hooks=[(down, lambda value, hook: seen.append(value.detach()))]),
        add(model, up, delta),
    ):
        model(run.batch.corrupt)
    return seen[0]


def answers(
    dictionary: Dictionary,
    before: Float[Tensor, "prompt pos d_model"],
    after: Float[Tensor, "prompt pos d_model"],
    nodes: SiteNodes,
) -> Float[Tensor, "node prompt pos d_model"]:
    """What each node alone writes more when the stream at its site changes from `before` to `after`."""
    was, now = (dictionary.encode(x) for x in (before, after))
    features = nodes.feature.clamp(min=0)
    written = (now - was)[..., features].permute(2, 0, 1)[..., None] * dictionary.decoder[features][
        :, None, None
    ]
    error = (after.to(now.dtype) - dictionary.decode(now)) - (before.to(was.dtype) - dictionary.decode(was))
    out = torch.where((nodes.feature < 0)[:, None, None, None], error[None], written)
    return out * position_mask(nodes, out.shape[2]).to(out.dtype)[:, None, :, None]
