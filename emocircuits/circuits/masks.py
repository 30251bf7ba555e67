"""Which nodes belong together: gradients of a circuit's own metric with respect to how much of each node it
keeps.

A circuit is judged by running it with everything else ablated, at all sites at once. A node's effect when it
alone is patched says little about that: what a feature at a late site does needs the features at earlier
sites that feed it. So every feature and error gets a mask t between 0 (ablated to its corrupt value) and 1
(kept as it is computed live), and

    score of a node = mean over points of  d m(t) / d t_node

along the straight line from a circuit (its own masks 1, all others 0) to everything (all masks 1). From the
empty circuit the scores of all nodes add up to m(full) - m(empty). They are integrated gradients over masks
(cf. mask gradients in AutoCircuit, Miller et al. 2024, arXiv 2407.08734), kept per prompt. `refined_scores`
takes the strongest certain ones, then asks again from there: nodes outside by what adding them to that
circuit does, nodes inside by what weakening them takes away.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.circuits.faithfulness import EVERYTHING, circuit_metric
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.site_run import SiteRun
from emocircuits.names import NodeId, format_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.edit import edited
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, all_indices, chunks
from emocircuits.progress import track
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

ALONG = (0.1, 0.3, 0.5, 0.7, 0.9)  # from nothing to everything
GROW, SHRINK = (0.03, 0.12), (0.93,)  # a little more than the circuit, a little less: its neighbourhood
KEPT_BYTES = 1 << 29  # of both sides' streams
LOOKS, LEARN = 6, 0.25  # how often the nodes are scored, and the weight of a new look against those before


@dataclass(frozen=True, eq=False)
class MaskScores:
    """Scores of every feature and error of some sites.

    Attributes:
        nodes: their ids, site by site, the error of a site last.
        scores: per prompt; positive means that keeping the node moves the metric towards its clean value.
    """

    nodes: tuple[str, ...]
    scores: Float[np.ndarray, "prompt node"]

    def best(self, size: int, *, seed: int = 0) -> tuple[str, ...]:
        """The `size` nodes of the largest mean score whose interval lies above 0, strongest first.

        Raises:
            UserError: there is none.
        """
        low, _ = bootstrap_interval(self.scores, seed=seed)
        order = np.argsort(-self.scores.mean(0), kind="stable")
        chosen = order[low[order] > 0][:size]
        if not len(chosen):
            raise UserError(
                "no node's score is certain enough for a circuit",
                expected="more prompts, or SAEs that reconstruct better",
            )
        return tuple(self.nodes[place] for place in chosen)


def mask_scores(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    circuit: Sequence[str] = (),
    among: Collection[str] | None = None,
    points: Sequence[float] = ALONG,
    inside: bool = False,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> MaskScores:
    """Gradients with respect to masks, averaged over points.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; all sites are ablated together.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        circuit: nodes whose masks are 1 where the line begins.
        among: nodes whose scores are wanted; None means all.
        points: where on the line; 0 is the circuit, 1 everything. With `inside` the line runs from nothing
            (0) to the circuit (1).
        inside: whether the line ends in the circuit instead of beginning there.
        max_tokens: tokens per pass.
    """
    return _Masked(
        model, open_dictionaries(saes, getattr(model.cfg, "d_model", None)), batches, metric, max_tokens
    ).scores(circuit, among, points, inside)


def refined_scores(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    size: int,
    *,
    among: Collection[str] | None = None,
    seed: int = 0,
    looks: int = LOOKS,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> MaskScores:
    """Scores whose `best(size)` is the circuit that together keeps most of the metric.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE of the sites that the circuit covers.
        batches: the find prompts.
        metric: logits -> one value per prompt.
        size: most nodes of the circuit.
        among: nodes to choose from; None means all.
        seed: seed of the bootstrap: a node whose interval includes 0 is not taken.
        looks: how often the nodes are scored, the first time from nothing, then from the circuit so far.
        max_tokens: tokens per pass.

    Raises:
        UserError: no node's interval lies above 0.
    """
    masked = _Masked(
        model, open_dictionaries(saes, getattr(model.cfg, "d_model", None)), batches, metric, max_tokens
    )
    found = masked.scores((), among, ALONG, False)
    for _ in range(looks - 1):
        circuit = found.best(size, seed=seed)
        grown, weaker = (
            masked.scores(circuit, among, points, inside).scores
            for points, inside in ((GROW, False), (SHRINK, True))
        )
        new = np.where(np.isin(found.nodes, circuit), weaker, grown)
        found = MaskScores(found.nodes, (1 - LEARN) * found.scores + LEARN * new)
    return found


@dataclass(frozen=True, eq=False)
class _Masked:
    """Prompt pairs that circuits are scored on, one after another: both sides are run once and kept where
    they fit.
    """

    model: Any
    dictionaries: Mapping[str, Dictionary]
    batches: Sequence[PairBatch]
    metric: Metric
    max_tokens: int

    def scores(
        self, circuit: Sequence[str], among: Collection[str] | None, points: Sequence[float], inside: bool
    ) -> MaskScores:
        """See `mask_scores`."""
        kept, found = _masks(circuit, self.dictionaries), []
        for run in self._runs():
            sign = torch.sign((run.metric_clean - run.metric_corrupt).mean())
            total: list[Tensor] = []
            for point in points:
                leaves = {
                    site: (mask * point if inside else mask + (1 - mask) * point)
                    .expand(len(run.batch), -1)
                    .clone()
                    .requires_grad_()
                    for site, mask in kept.items()
                }
                with torch.enable_grad():
                    value = self._masked_metric(run, leaves)
                total.append(torch.cat(torch.autograd.grad(value.sum(), list(leaves.values())), dim=1))
            found.append(sign * torch.stack(total).mean(0))
        nodes = tuple(
            format_node(
                NodeId(
                    "feature" if feature < dictionary.d_sae else "error",
                    site=site,
                    feature=feature if feature < dictionary.d_sae else None,
                )
            )
            for site, dictionary in self.dictionaries.items()
            for feature in range(dictionary.d_sae + 1)
        )
        wanted = np.flatnonzero(
            np.ones(len(nodes), dtype=bool) if among is None else np.isin(nodes, list(among))
        )
        scores = (
            torch.cat([one[:, torch.from_numpy(wanted).to(one.device)] for one in found])
            .double()
            .numpy(force=True)
        )
        return MaskScores(
            tuple(nodes[place] for place in wanted),
            scores[np.argsort(all_indices(self.batches), kind="stable")],
        )

    def _masked_metric(self, run: PairRun, masks: Mapping[str, Tensor]) -> Float[Tensor, "prompt"]:
        """The clean run with everything masked; nothing before the first site is run again."""
        edits = {
            site: _edit(dictionary, run.sites[site], masks[site])
            for site, dictionary in self.dictionaries.items()
        }
        first, live = next(iter(edits)), next(iter(run.sites.values())).clean
        start = edits.pop(first)(live).to(live.dtype)
        with edited(self.model, edits, what="masks", must_change=False):
            return FromSite.of(self.model, self.metric, run.batch)(
                run.batch.clean, run.batch.index, first, start
            )

    def _runs(self) -> Iterable[PairRun]:
        return (
            track(self._kept, "masks")
            if self._kept is not None
            else map(self._run, track(self._chunks, "masks"))
        )

    def _run(self, chunk: PairBatch) -> PairRun:
        return run_pair(self.model, self.dictionaries, chunk, self.metric, gradient=False)

    @cached_property
    def _chunks(self) -> list[PairBatch]:
        return list(chunks(self.batches, self.max_tokens))

    @cached_property
    def _kept(self) -> list[PairRun] | None:
        size = (
            8
            * sum(batch.clean.numel() for batch in self.batches)
            * self.model.cfg.d_model
            * len(self.dictionaries)
        )
        return [self._run(chunk) for chunk in self._chunks] if size <= KEPT_BYTES else None


def closest(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    ranked: Sequence[str],
    *,
    sizes: int = 12,
    tolerance: float = 0.01,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> tuple[str, ...]:
    """All of ranked nodes, or where together they would do more than the model, the first so many that come
    closest to it.

    More helpful nodes are not always better: what holds the behaviour back may be among those left out, and a
    circuit that does more than the model is not what the model does.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE of the sites that the circuit covers.
        batches: the find prompts.
        metric: logits -> one value per prompt.
        ranked: nodes, the most important first.
        sizes: how many sizes are tried, evenly spaced on a logarithmic axis.
        tolerance: differences of faithfulness that do not count; the most nodes are taken of sizes that are
            as close.
        max_tokens: tokens per pass.
    """
    tried = sorted({round(size) for size in np.geomspace(1, len(ranked), sizes)})
    circuits = [(), EVERYTHING, *(tuple(ranked[:size]) for size in tried)]
    empty, full, *kept = circuit_metric(model, saes, batches, metric, circuits, max_tokens=max_tokens).mean(1)
    beyond = (np.array(kept) - empty) / (full - empty) - 1
    if beyond[-1] <= tolerance:
        return tuple(ranked)
    near = np.flatnonzero(np.abs(beyond) <= np.abs(beyond).min() + tolerance)
    return tuple(ranked[: tried[int(near[-1])]])


def _masks(
    circuit: Sequence[str], dictionaries: Mapping[str, Dictionary]
) -> dict[str, Float[Tensor, "1 node"]]:
    inside = set(circuit)
    masks = {}
    for site, dictionary in dictionaries.items():
        names = [
            format_node(NodeId("feature", site=site, feature=feature)) for feature in range(dictionary.d_sae)
        ]
        kept = [name in inside for name in (*names, format_node(NodeId("error", site=site)))]
        masks[site] = torch.tensor([kept], dtype=dictionary.decoder.dtype, device=dictionary.decoder.device)
    return masks


def _edit(dictionary: Dictionary, run: SiteRun, masks: Float[Tensor, "prompt node"]):
    features = dictionary.encode(run.corrupt)
    error = run.corrupt.to(features.dtype) - dictionary.decode(features)
    keep, keep_error = masks[:, None, :-1], masks[:, None, -1:]

    def edit(x: Tensor) -> Tensor:
        # with its gradient: later masks act through earlier ones
        live = dictionary.sae.encode(x.to(dictionary.decoder.dtype))
        live = live.to_dense() if live.is_sparse else live
        rest = x - dictionary.decode(live)
        return dictionary.decode(features + keep * (live - features)) + error + keep_error * (rest - error)

    return edit
