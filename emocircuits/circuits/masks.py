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
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.circuits.faithfulness import EVERYTHING, circuit_metric
from emocircuits.errors import UserError
from emocircuits.graphs.feature_sides import FeatureSides, feature_sides
from emocircuits.interventions.ablate import NodeValues
from emocircuits.names import NodeId, format_node, residual_site
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.edit import edited
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.recompute import copies_at_once
from emocircuits.passes.record import Change
from emocircuits.passes.task import Task
from emocircuits.progress import track

ALONG = (0.1, 0.3, 0.5, 0.7, 0.9)  # from nothing to everything
GROW, SHRINK = (0.03, 0.12), (0.93,)  # a little more than the circuit, a little less: its neighbourhood
KEPT_BYTES = 1 << 29  # of both sides' streams
ROUNDS, LEARN = 6, 0.25  # how often nodes are scored, and the weight of a new round against those before


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
    task: Task,
    *,
    circuit: Sequence[str] = (),
    among: Collection[str] | None = None,
    points: Sequence[float] = ALONG,
    inside: bool = False,
) -> MaskScores:
    """Gradients with respect to masks, averaged over points.

    Args:
        task: the prompts, the metric and the SAEs; all their sites are ablated together.
        circuit: nodes whose masks are 1 where the line begins.
        among: nodes whose scores are wanted; None means all.
        points: where on the line; 0 is the circuit, 1 everything. With `inside` the line runs from nothing
            (0) to the circuit (1).
        inside: whether the line ends in the circuit instead of beginning there.
    """
    return _Masked(task).scores(circuit, among, points, inside)


def refined_scores(
    task: Task, size: int, *, among: Collection[str] | None = None, seed: int = 0, rounds: int = ROUNDS
) -> MaskScores:
    """Scores whose `best(size)` is the circuit that together keeps most of the metric.

    Args:
        task: the find prompts, the metric, and the SAEs of the sites that the circuit covers.
        size: most nodes of the circuit.
        among: nodes to choose from; None means all.
        seed: seed of the bootstrap: a node whose interval includes 0 is not taken.
        rounds: how often the nodes are scored, the first time from nothing, then from the circuit so far.

    Raises:
        UserError: no node's interval lies above 0.
    """
    masked = _Masked(task)
    refined = masked.scores((), among, ALONG, False)
    for _ in range(rounds - 1):
        circuit = refined.best(size, seed=seed)
        grown, weaker = (
            masked.scores(circuit, among, points, inside).scores
            for points, inside in ((GROW, False), (SHRINK, True))
        )
        new = np.where(np.isin(refined.nodes, circuit), weaker, grown)
        refined = MaskScores(refined.nodes, (1 - LEARN) * refined.scores + LEARN * new)
    return refined


def best_prefix(
    task: Task, ranked: Sequence[str], *, sizes: int = 12, tolerance: float = 0.01
) -> tuple[str, ...]:
    """All of ranked nodes, or where together they would do more than the model, the first so many that come
    closest to it.

    More helpful nodes are not always better: what holds the behaviour back may be among those left out, and a
    circuit that does more than the model is not what the model does.

    Args:
        task: the find prompts, the metric, and the SAEs of the sites that the circuit covers.
        ranked: nodes, the most important first.
        sizes: how many sizes are tried, evenly spaced on a logarithmic axis.
        tolerance: differences of faithfulness that do not count; the most nodes are taken of sizes that are
            as close.
    """
    tried = sorted({round(size) for size in np.geomspace(1, len(ranked), sizes)})
    circuits = [(), EVERYTHING, *(tuple(ranked[:size]) for size in tried)]
    empty, full, *kept = circuit_metric(task, circuits).mean(1)
    beyond = (np.array(kept) - empty) / (full - empty) - 1
    if beyond[-1] <= tolerance:
        return tuple(ranked)
    near = np.flatnonzero(np.abs(beyond) <= np.abs(beyond).min() + tolerance)
    return tuple(ranked[: tried[int(near[-1])]])


@dataclass(frozen=True, eq=False)
class _Masked:
    """Prompt pairs that circuits are scored on, one after another: both sides are run once and kept where
    they fit.
    """

    task: Task

    def scores(
        self, circuit: Sequence[str], among: Collection[str] | None, points: Sequence[float], inside: bool
    ) -> MaskScores:
        """See `mask_scores`."""
        kept, parts = self._masks(circuit), []
        for sides in self._sides():
            sign = torch.sign((sides.clean.metric - sides.corrupt.metric).mean())
            at_once, total = copies_at_once(self.task.model, sides.batch.clean, self.task.max_tokens), 0.0
            for some in torch.tensor(points, device=sides.batch.index.device).split(at_once):
                leaves = {}
                for site, mask in kept.items():
                    point = some.to(mask)[:, None].repeat_interleave(len(sides.batch), 0)
                    line = mask * point if inside else mask + (1 - mask) * point
                    leaves[site] = line.requires_grad_()
                with torch.enable_grad():
                    value = self._masked_metric(sides, leaves)
                slopes = torch.cat(torch.autograd.grad(value.sum(), list(leaves.values())), dim=1)
                total = total + slopes.view(len(some), len(sides.batch), -1).sum(0)
            parts.append(sign * total / len(points))
        chosen = np.ones(len(self._nodes), dtype=bool) if among is None else np.isin(self._nodes, list(among))
        wanted = np.flatnonzero(chosen)
        scores = torch.cat([part[:, torch.from_numpy(wanted).to(part.device)] for part in parts])
        order = np.argsort(self.task.prompts.index, kind="stable")
        nodes = tuple(self._nodes[place] for place in wanted)
        return MaskScores(nodes, scores.double().numpy(force=True)[order])

    @cached_property
    def _nodes(self) -> tuple[str, ...]:
        """All features and errors, site by site, the error of a site last."""
        nodes: list[NodeId] = []
        for site, dictionary in self.task.dictionaries.items():
            nodes += [NodeId("feature", site=site, feature=feature) for feature in range(dictionary.d_sae)]
            nodes.append(NodeId("error", site=site))
        return tuple(map(format_node, nodes))

    def _masks(self, circuit: Sequence[str]) -> dict[str, Float[Tensor, "1 node"]]:
        """1 for the nodes of a circuit, 0 for the others, by site."""
        inside, masks, first = np.isin(self._nodes, list(circuit)), {}, 0
        for site, dictionary in self.task.dictionaries.items():
            last = first + dictionary.d_sae + 1
            masks[site] = torch.from_numpy(inside[None, first:last]).to(dictionary.decoder)
            first = last
        return masks

    def _masked_metric(self, sides: FeatureSides, masks: Mapping[str, Tensor]) -> Float[Tensor, "row"]:
        """Clean runs with everything masked, as often as there are rows of masks for every prompt; nothing
        before the first site is run again.
        """
        edits = {site: self._edit(sides, site, mask) for site, mask in masks.items()}
        first = next(iter(edits))
        prompts = torch.arange(len(sides.batch), device=sides.batch.index.device)
        rows = prompts.repeat(len(masks[first]) // len(prompts))
        start = edits.pop(first)(sides.sites[first].clean[rows]).to(self.task.dtype)
        final = edits.pop(residual_site(self.task.model.cfg.n_layers - 1), None)
        metric_from, batch = sides.metric_from(self.task), sides.batch.rows(rows)
        with edited(self.task.model, edits, what="masks", must_change=False):
            return metric_from(batch.clean, batch.index, first, start, final=final, rows=rows)

    def _edit(self, sides: FeatureSides, site: str, masks: Float[Tensor, "row node"]) -> Change:
        dictionary, run = self.task.dictionaries[site], sides.sites[site]
        make = partial(NodeValues.of, dictionary, run.corrupt)
        base = sides.once(("base", site), make) if self._keeps_features else make()
        keep, keep_error = masks[:, None, :-1], masks[:, None, -1:]

        def edit(x: Tensor) -> Tensor:
            # with its gradient: later masks act through earlier ones
            live = dictionary.encode_with_gradient(x)
            features, error, corrupt = (
                value[:, -x.shape[1] :].repeat(len(x) // len(value), 1, 1)
                for value in (base.features, base.error, run.corrupt)
            )
            rest = x - dictionary.decode(live)
            return corrupt + dictionary.written(keep * (live - features)) + keep_error * (rest - error)

        return edit

    def _sides(self) -> Iterable[FeatureSides]:
        if self._kept is not None:
            return track(self._kept, "masks")
        return map(self._run, track(list(self.task.batches()), "masks"))

    def _run(self, batch: PairBatch) -> FeatureSides:
        return feature_sides(self.task, batch, gradient=False)

    @cached_property
    def _keeps_features(self) -> bool:
        """Whether the activations of the corrupt sides at all sites fit next to the streams."""
        widths = sum(dictionary.d_sae for dictionary in self.task.dictionaries.values())
        return self._kept is not None and 4 * self.task.prompts.n_tokens * widths <= KEPT_BYTES

    @cached_property
    def _kept(self) -> list[FeatureSides] | None:
        size = 8 * self.task.prompts.n_tokens * self.task.model.cfg.d_model * len(self.task.saes)
        return [self._run(batch) for batch in self.task.batches()] if size <= KEPT_BYTES else None
