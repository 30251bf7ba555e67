"""Which nodes belong together: gradients of a circuit's own metric with respect to how much of each node it keeps.

A circuit is judged by running it with everything else ablated, at all sites at once. A node's effect when it alone is patched says
little about that: what a feature at a late site does needs the features at earlier sites that feed it. So every feature and error
gets a mask t between 0 (ablated to its corrupt value) and 1 (kept as it is computed live), and

    score of a node = mean over points of  d m(t) / d t_node

along the straight line from a circuit (its own masks 1, all others 0) to everything (all masks 1). From the empty circuit the scores
of all nodes add up to m(full) - m(empty). They are integrated gradients over masks (cf. mask gradients in AutoCircuit, Miller et al.
2024, arXiv 2407.08734), kept per prompt. `choose_circuit` takes the strongest certain ones, then asks again from there: nodes
outside by what adding them to that circuit does, nodes inside by what weakening them takes away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.node_id import NodeId, format_node
from emocircuits.attribution.linearise import run_pair
from emocircuits.attribution.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks, measure
from emocircuits.errors import UserError
from emocircuits.interventions.dictionary import Dictionary, open_dictionaries
from emocircuits.interventions.hooks import edited
from emocircuits.numerics import bootstrap_interval
from emocircuits.progress import track

GROW, SHRINK = (0.1, 0.3, 0.5, 0.7, 0.9), (0.7, 0.9)
LEARN = 0.5  # weight of the second look against the first


@dataclass(frozen=True, eq=False)
class MaskScores:
    """Scores of every feature and error of some sites.

    Attributes:
        nodes: their ids, site by site, the error of a site last.
        scores: per prompt; positive means that keeping the node moves the metric towards its clean value.
    """

    nodes: tuple[str, ...]
    scores: Float[np.ndarray, "prompt node"]


def mask_scores(
    model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], metric: Metric, *,
    circuit: Sequence[str] = (), points: Sequence[float] = GROW, inside: bool = False, max_tokens: int = DEFAULT_MAX_TOKENS,
) -> MaskScores:
    """Gradients with respect to masks, averaged over points.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; all sites are ablated together.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        circuit: nodes whose masks are 1 where the line begins.
        points: where on the line; 0 is the circuit, 1 everything. With `inside` the line runs from nothing (0) to the circuit (1).
        inside: whether the line ends in the circuit instead of beginning there.
        max_tokens: tokens per pass.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    kept = _masks(circuit, dictionaries)
    order = np.argsort(all_indices(batches), kind="stable")
    found = []
    for chunk in track(list(chunks(batches, max_tokens)), "masks"):
        run = run_pair(model, dictionaries, chunk, metric, gradient=False)
        sign = torch.sign((run.metric_clean - run.metric_corrupt).mean())
        total: list[Tensor] = []
        for point in points:
            at = {site: (mask * point if inside else mask + (1 - mask) * point) for site, mask in kept.items()}
            leaves = {site: mask.expand(len(chunk), -1).clone().requires_grad_() for site, mask in at.items()}
            with torch.enable_grad(), edited(model, {site: _edit(dictionary, run.sites[site], leaves[site])
                                                     for site, dictionary in dictionaries.items()}, what="masks", must_change=False):
                value = measure(metric, model(chunk.clean), chunk.index)
            grads = torch.autograd.grad(value.sum(), list(leaves.values()))
            total.append(torch.cat(grads, dim=1))
        found.append(sign * torch.stack(total).mean(0))
    nodes = tuple(format_node(NodeId("feature" if feature < dictionary.d_sae else "error", site=site,
                                     feature=feature if feature < dictionary.d_sae else None))
                  for site, dictionary in dictionaries.items() for feature in range(dictionary.d_sae + 1))
    return MaskScores(nodes, torch.cat(found).double().numpy(force=True)[order])


def choose_circuit(
    model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], metric: Metric, size: int, *, seed: int = 0,
    looks: int = 2, max_tokens: int = DEFAULT_MAX_TOKENS,
) -> tuple[str, ...]:
    """The `size` nodes that together keep most of the metric, strongest first; fewer where fewer are certain.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE of the sites that the circuit covers.
        batches: the find prompts.
        metric: logits -> one value per prompt.
        size: most nodes.
        seed: seed of the bootstrap: a node whose interval includes 0 is not taken.
        looks: how often the nodes are scored anew from the circuit so far.
        max_tokens: tokens per pass.

    Raises:
        UserError: no node's interval excludes 0.
    """
    found = mask_scores(model, saes, batches, metric, max_tokens=max_tokens)
    scores, chosen = found.scores, np.zeros(0, dtype=int)
    for look in range(looks):
        low, _ = bootstrap_interval(scores, seed=seed)
        mean = scores.mean(0)
        order = np.argsort(-mean, kind="stable")
        chosen = order[(low[order] > 0) & (mean[order] > 0)][:size]
        if not len(chosen):
            raise UserError("no node's score is certain enough for a circuit", expected="more prompts, or SAEs that reconstruct better")
        if look + 1 < looks:
            names = [found.nodes[place] for place in chosen]
            options = {"circuit": names, "max_tokens": max_tokens}
            grown = mask_scores(model, saes, batches, metric, points=GROW[:3], **options).scores
            weaker = mask_scores(model, saes, batches, metric, points=SHRINK, inside=True, **options).scores
            inside = np.isin(np.arange(len(found.nodes)), chosen)
            scores = (1 - LEARN) * scores + LEARN * np.where(inside, weaker, grown)
    return tuple(found.nodes[place] for place in chosen)


def _masks(circuit: Sequence[str], dictionaries: Mapping[str, Dictionary]) -> dict[str, Float[Tensor, "1 node"]]:
    inside = set(circuit)
    masks = {}
    for site, dictionary in dictionaries.items():
        names = [format_node(NodeId("feature", site=site, feature=feature)) for feature in range(dictionary.d_sae)]
        kept = [name in inside for name in (*names, format_node(NodeId("error", site=site)))]
        masks[site] = torch.tensor([kept], dtype=dictionary.decoder.dtype, device=dictionary.decoder.device)
    return masks


def _edit(dictionary: Dictionary, run: Any, masks: Float[Tensor, "prompt node"]):  # noqa: ANN202
    features, error = run.features_corrupt, run.corrupt.to(run.features_corrupt.dtype) - dictionary.decode(run.features_corrupt)
    keep, keep_error = masks[:, None, :-1], masks[:, None, -1:]

    def edit(x: Tensor) -> Tensor:
        live = dictionary.sae.encode(x.to(dictionary.decoder.dtype))  # with its gradient: later masks act through earlier ones
        live = live.to_dense() if live.is_sparse else live
        rest = x - dictionary.decode(live)
        return dictionary.decode(features + keep * (live - features)) + error + keep_error * (rest - error)

    return edit
