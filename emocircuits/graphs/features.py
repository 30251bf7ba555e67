"""The graph of SAE features and errors: edges between nodes of adjacent sites, through everything that the
model computes between them.

For a downstream feature d with encoder row enc_d, activation slope s_d and gradient dM/df_d (both at the
corrupt run), and an upstream node that writes delta into the stream, with J = d x_down / d x_up at the
corrupt run,

    edge(node -> d)     = sum over positions of dM/df_d * s_d * <enc_d, J delta>
    edge(node -> error) = sum over positions of <dM/dx - sum_d dM/df_d s_d enc_d, J delta>

The seed dM/df_d * s_d * enc_d is pulled back once per downstream node (a vector-Jacobian product, many seeds
in one batched backward pass) and contracted with all upstream nodes of all prompts by one matrix product.
Summed over *all* downstream nodes the seeds give dM/dx, so a node's outgoing edges add up to its effect
exactly, whatever the slopes. All computation between the two sites (attention, MLPs) is part of the edge.
With `steps` dM/dx is the gradient averaged along each site's path, as in Marks et al. 2024, while J stays
that of the corrupt run: edges then go with those effects, and no longer add up to them exactly.

The slope is 1 where d is active on both runs, the secant (clean - corrupt activation over clean - corrupt
preactivation) where it is active on one, 0 elsewhere, so features that switch on are credited. A secant is
clipped to [0, `slope_limit`]: near a jump (TopK, JumpReLU) it has no bound, and what is clipped goes to the
error node. Last-site nodes link to the metric with their effect.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.feature_circuits import FeatureCircuits
from emocircuits.graphs.feature_patches import FeaturePatcher
from emocircuits.graphs.feature_sides import (
    FeatureSides,
    feature_references,
    feature_sides,
    with_path_gradients,
)
from emocircuits.graphs.graph import chosen_among
from emocircuits.graphs.order import balanced_order
from emocircuits.graphs.reference_values import ReferenceValues
from emocircuits.graphs.site_nodes import SiteNodes, contributions, nodes_by_site, position_mask
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.slopes import SLOPE_LIMIT, slopes
from emocircuits.names import TARGET, parse_node
from emocircuits.passes.attention import fused_attention
from emocircuits.passes.prompt_pairs import PairBatch, Reference
from emocircuits.passes.task import Task


@dataclass(frozen=True, eq=False)
class FeatureGraph:
    """Chosen features and errors of the SAEs of a task; see `Graph`.

    Attributes:
        task: the model, its SAEs, the prompts and the metric; "adjacent" means adjacent among its SAEs.
        nodes: ids of features and errors, with or without positions.
        slope_limit: bound of the secant slope.

    Raises:
        UserError: no node, or one that the SAEs do not have.
    """

    task: Task
    nodes: tuple[str, ...]
    slope_limit: float = SLOPE_LIMIT
    unit: str = "nodes"

    def __post_init__(self) -> None:
        if not self.nodes:
            raise UserError("a graph without a node", expected="at least one feature or error")
        assert self.by_site is not None

    @cached_property
    def by_site(self) -> dict[str, SiteNodes]:
        """The nodes of every site, as index arrays."""
        return nodes_by_site(self.nodes, self.task.dictionaries)

    @property
    def slots(self) -> tuple[str, ...]:
        """The nodes, and the logits."""
        return (*self.nodes, TARGET)

    @property
    def items(self) -> tuple[str, ...]:
        """The nodes."""
        return self.nodes

    @cached_property
    def groups(self) -> Int[np.ndarray, "item"]:
        """The number of each node's site."""
        place = {site: number for number, site in enumerate(self.task.saes)}
        return np.array([place[parse_node(node).site] for node in self.nodes])

    @cached_property
    def errors(self) -> Bool[np.ndarray, "item"]:
        """Which nodes are errors."""
        return np.array([parse_node(node).kind == "error" for node in self.nodes])

    @cached_property
    def slot_groups(self) -> tuple[Int[np.ndarray, "slot"], ...]:
        """The site that a slot lies at; the logits come last."""
        return (np.append(self.groups, len(self.task.saes)),)

    @cached_property
    def pairs(self) -> tuple[Int[np.ndarray, "edge"], Int[np.ndarray, "edge"]]:
        """From every node to every node of the next site, the latter varying slowest; from the last site to
        the logits.
        """
        numbers = self.numbers
        sites, sources, targets = list(self.by_site), [], []
        for upstream, downstream in zip(sites, sites[1:], strict=False):
            sources.append(np.tile(numbers[upstream], len(numbers[downstream])))
            targets.append(np.repeat(numbers[downstream], len(numbers[upstream])))
        sources.append(numbers[sites[-1]])
        targets.append(np.full(len(numbers[sites[-1]]), len(self.nodes)))
        return np.concatenate(sources), np.concatenate(targets)

    @cached_property
    def numbers(self) -> dict[str, Int[np.ndarray, "node"]]:
        """site -> numbers of its nodes, in the order of `by_site`."""
        number = {node: place for place, node in enumerate(self.nodes)}
        return {
            site: np.array([number[node] for node in group.ids], dtype=np.int64)
            for site, group in self.by_site.items()
        }

    def feeds(self) -> Bool[np.ndarray, "slot node"]:
        """See `Graph`; a slot is read for its own node."""
        return np.eye(len(self.slots), len(self.nodes), dtype=bool)

    def both_sides(self, batch: PairBatch, *, gradient: bool = False, edges: bool = False) -> FeatureSides:
        """See `Graph`."""
        return feature_sides(self.task, batch, self._references, gradient=gradient)

    def linear(self, sides: FeatureSides, *, steps: int = 0, edges: bool = False) -> "FeatureLinear":
        """See `Graph`."""
        if edges:
            self.refuse_side_branches()
        has_gradient = all(at.grad is not None for at in sides.sites.values())
        if not (steps or has_gradient):
            again = self.both_sides(sides.batch, gradient=True)
            sides = replace(again, passes=again.passes + sides.passes)
        return FeatureLinear(self, with_path_gradients(self.task, sides, steps) if steps else sides)

    def patcher(self, sides: FeatureSides) -> FeaturePatcher:
        """See `Graph`."""
        return FeaturePatcher(self.task, self.by_site, self.nodes, sides)

    def runner(self, task: Task | None = None) -> FeatureCircuits:
        """See `Graph`.

        Raises:
            UserError: nodes at single positions.
        """
        if any(parse_node(node).position is not None for node in self.nodes):
            raise UserError(
                "a circuit of nodes at single positions",
                expected="nodes over all positions",
                cure="attribute with positions summed",
            )
        return FeatureCircuits((task or self.task).with_saes(self.task.saes), self.nodes)

    def order(self, effects: Float[np.ndarray, "prompt item"]) -> Int[np.ndarray, "item"]:
        """See `Graph`; balanced over the sites."""
        return balanced_order(effects, self.groups)

    @torch.no_grad()
    def magnitudes(self) -> Float[np.ndarray, "item"]:
        """Length of what each node's change writes, summed over positions."""
        total = np.zeros(len(self.nodes))
        for batch in self.task.batches():
            for site, at in self.both_sides(batch).sites.items():
                features = at.delta_features.abs().sum((0, 1)) * at.dictionary.decoder.norm(dim=1)
                lengths = torch.cat([features, at.delta_error.norm(dim=-1).sum()[None]])
                # an error's number is -1: the last entry
                total[self.numbers[site]] += lengths[self.by_site[site].feature].double().numpy(force=True)
        return total / len(self.task.prompts)

    def choice(self, members: Collection[str]) -> Bool[np.ndarray, "item"]:
        """See `Graph`; members are node ids."""
        return chosen_among(self.nodes, {str(member) for member in members})

    def with_nodes(self, nodes: Sequence[str]) -> "FeatureGraph":
        """The graph of other nodes of the same task."""
        return replace(self, nodes=tuple(nodes))

    def refuse_side_branches(self) -> None:
        """Raises UserError where a site is not the residual stream: paths run past it."""
        side_branches = [site for site in self.task.saes if "hook_resid" not in site]
        if side_branches:
            raise UserError(
                f"edges at {', '.join(side_branches)}",
                expected="sites of the residual stream, through which all paths run",
            )

    @cached_property
    def _references(self) -> dict[Reference, ReferenceValues]:
        return {
            group.reference: feature_references(self.task, group.reference)
            for group in self.task.prompts.groups
            if group.reference is not None
        }


@dataclass(frozen=True, eq=False)
class FeatureLinear:
    """See `Linear`.

    Attributes:
        graph: nodes and edges.
        sides: both runs, with gradients at the sites.
    """

    graph: FeatureGraph
    sides: FeatureSides

    @property
    def passes(self) -> float:
        """See `Linear`."""
        return self.sides.passes

    def node_effects(self) -> Float[Tensor, "prompt node"]:
        """See `Linear`."""
        first = next(iter(self.sides.sites.values()))
        out = first.clean.new_zeros(len(self.sides.batch), len(self.graph.nodes))
        for site, at in self.sides.sites.items():
            group = self.graph.by_site[site]
            if len(group):
                out[:, torch.from_numpy(self.graph.numbers[site])] = contributions(at, group, at.grad[None])[
                    0
                ]
        return out

    def edge_effects(self) -> Float[Tensor, "prompt edge"]:
        """See `Linear`."""
        at, groups = self.sides.sites, self.graph.by_site
        sites = list(at)
        parts = [
            self._between(at[upstream], groups[upstream], at[downstream], groups[downstream])
            for upstream, downstream in zip(sites, sites[1:], strict=False)
        ]
        last = at[sites[-1]]
        parts.append(contributions(last, groups[sites[-1]], last.grad[None])[0])
        return torch.cat(parts, dim=1)

    @property
    def edge_passes(self) -> int:
        """Batched backward passes that `edge_effects` takes."""
        groups = list(self.graph.by_site.values())
        return sum(
            -(-len(downstream) // self._seeds_at_once)
            for upstream, downstream in zip(groups, groups[1:], strict=False)
            if len(upstream)
        )

    @property
    def _seeds_at_once(self) -> int:
        return max(1, self.graph.task.max_tokens // self.sides.batch.clean.numel())

    def _between(
        self, up: SiteRun, upstream: SiteNodes, down: SiteRun, downstream: SiteNodes
    ) -> Float[Tensor, "prompt edge"]:
        """Edges from every upstream to every downstream node, the downstream node varying slowest."""
        if not len(upstream) or not len(downstream):
            return up.clean.new_zeros(len(up.clean), 0)
        seeds_of, parts = SlotGradients(down, self.graph.slope_limit), []
        before, after = self._live_streams(up, down)
        for start in range(0, len(downstream), self._seeds_at_once):
            seeds = seeds_of(downstream.part(slice(start, start + self._seeds_at_once)))
            seeds = seeds[:, :, -after.shape[1] :].to(after.dtype)
            (pulled,) = torch.autograd.grad(after, before, seeds, is_grads_batched=True, retain_graph=True)
            parts.append(contributions(up, upstream, pulled).transpose(0, 1).flatten(1))
        return torch.cat(parts, dim=1)

    def _live_streams(
        self, up: SiteRun, down: SiteRun
    ) -> tuple[Float[Tensor, "prompt pos d_model"], Float[Tensor, "prompt later d_model"]]:
        """The live streams of two sites, the second as a function of the first; it lacks first positions that
        no one reads or that are alike on both runs.
        """
        task, batch = self.graph.task, self.sides.batch
        metric_from = self.sides.metric_from(task)
        tokens = batch.clean if self.sides.ablated else batch.corrupt
        before = up.live.to(task.dtype).detach().requires_grad_()
        with torch.enable_grad(), fused_attention(task.model, tokens) as fused:
            metric_from = metric_from.without_prefix() if fused else metric_from
            return before, metric_from.onward(tokens, up.dictionary.site, before, down.dictionary.site)


class SlotGradients:
    """Gradients of the metric through single nodes of a site, taken back to the site's stream.

    Args:
        run: the site, with the gradient of the metric.
        limit: bound of the secant slope.

    Raises:
        UserError: a site without features.
    """

    def __init__(self, run: SiteRun, limit: float = SLOPE_LIMIT):
        if not run.dictionary.d_sae:
            raise UserError(f"the site {run.dictionary.site} has no features", expected="such a site first")
        self._run = run
        self._weight = slopes(run, limit) * run.feature_grad
        self._rest = run.grad - self._weight @ run.dictionary.encoder.T

    def __call__(self, nodes: SiteNodes) -> Float[Tensor, "node prompt pos d_model"]:
        """One seed per node, at the node's positions."""
        feature, encoder = nodes.feature.clamp(min=0), self._run.dictionary.encoder
        seeds = self._weight[..., feature].permute(2, 0, 1)[..., None] * encoder.T[feature][:, None, None]
        seeds = torch.where((nodes.feature < 0)[:, None, None, None], self._rest[None], seeds)
        return seeds * position_mask(nodes, seeds.shape[2]).to(seeds.dtype)[:, None, :, None]
