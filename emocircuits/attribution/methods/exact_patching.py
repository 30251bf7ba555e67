"""Exact patching, the oracle: really put one node's clean value into the corrupt run and measure the metric.

    effect of a node = M(corrupt run with x + delta at the node's site) - M(corrupt run)

with delta = (f_clean - f_corrupt)_i * decoder_i for a feature and e_clean - e_corrupt for an error node, at
all positions at once (or at the node's own). Many nodes run side by side along the batch axis; where a
prompt's delta is zero the effect is zero and nothing is run. Prompts with a baseline are patched the other
way: M(clean) - M(clean run with x - delta).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.attribution_patching import CONVENTIONS, attribution_patching
from emocircuits.attribution.methods.card import METHODS, MethodCard
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.nodes import SiteNodes, deltas, nodes_by_site
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.shared import Shared
from emocircuits.sae.dictionary import open_dictionaries


def exact_patching(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    behaviour: str = "",
    nodes: Sequence[str] | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of real patches, per prompt.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt; a gradient is needed only where `nodes` is None.
        behaviour: name stored in the result.
        nodes: which nodes to patch, in the order of the result; None takes every node that attribution
            patching finds.
        max_tokens: tokens per forward pass.

    Returns:
        Effects of the nodes asked for; prompts in the order of their index.

    Raises:
        UserError: no node, a node the SAEs do not have, wrong shapes.
    """
    passes = 0
    if nodes is None:
        found = attribution_patching(model, saes, batches, metric, max_tokens=max_tokens)
        nodes, passes = found.nodes, found.passes
    if not nodes:
        raise UserError("no node to patch")
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    groups = nodes_by_site(nodes, dictionaries)
    column = {node: number for number, node in enumerate(nodes)}
    shared = Shared(batches, max_tokens, "exact patching")
    for chunk in shared.mine():
        run = run_pair(model, dictionaries, chunk, metric, gradient=False)
        rows, metric_from = run.passes * len(chunk), FromSite.of(model, metric, chunk)
        part = run.metric_corrupt.new_zeros(len(chunk), len(nodes))
        for site, group in groups.items():
            values, spent = _patch_site(metric_from, run, site, group, max_tokens)
            part[:, [column[node] for node in group.ids]] = values
            rows += spent
        shared.keep(chunk, part, run.metric_clean, run.metric_corrupt, passes=rows / len(chunk))
    found, spent = shared.collect()
    conventions = {
        **CONVENTIONS,
        "method": "exact_patching",
        "gradient": "none",
        "positions": "as the node says",
    }
    return AttributionResult(
        behaviour, tuple(nodes), *found, conventions, passes + int(np.ceil(spent - 1e-9))
    )


@torch.no_grad()
def _patch_site(
    metric_from: FromSite, run: PairRun, site: str, group: SiteNodes, max_tokens: int
) -> tuple[torch.Tensor, int]:
    """Effects (prompt, node) of the nodes of one site, and how many prompts were run."""
    n_prompts, length = run.batch.corrupt.shape
    effects = run.metric_corrupt.new_zeros(n_prompts, len(group))
    rows = max(1, max_tokens // length)
    waiting: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    passes = 0

    def flush() -> None:
        nonlocal passes
        delta, node, prompt = (torch.cat(parts) for parts in zip(*waiting, strict=True))
        for start in range(0, len(delta), rows):
            now = slice(start, start + rows)
            live, index = (
                run.sites[site].live[prompt[now]],
                run.batch.index[prompt[now].to(run.batch.index.device)],
            )
            patched = metric_from(
                run.batch.corrupt[prompt[now]], index, site, live + (run.sign * delta[now]).to(live.dtype)
            )
            effects[prompt[now], node[now]] = run.sign * (patched - run.metric_live[prompt[now]])
            passes += len(prompt[now])
        waiting.clear()

    block = max(1, rows // n_prompts)
    for start in range(0, len(group), block):
        delta = deltas(run.sites[site], group.part(slice(start, start + block)))
        node, prompt = (delta != 0).any(-1).any(-1).nonzero(as_tuple=True)
        if len(node):
            waiting.append((delta[node, prompt], node + start, prompt))
        if sum(len(item[1]) for item in waiting) >= rows:
            flush()
    if waiting:
        flush()
    return effects, passes


METHODS.add(
    MethodCard(
        "exact_patching",
        "one real patch per node and prompt; slow, the oracle of the others",
        exact_patching,
        exact=True,
    )
)
