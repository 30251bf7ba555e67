"""From a direction to a token: the effect of a push on a metric, split exactly in two ways, and what real
interventions say.

*By what reads the push.* The push lies in the residual stream; from there it reaches the logits directly
(what the unembedding makes of it: a push on output tokens) or enters a head's queries, keys or values or an
MLP after the site (deeper computation). Each of these edges is integrated over the strength; together they
are the whole effect.

*By what it becomes at a later site.* There the push has changed features and the error, and < change, mean
gradient over the strength > of each is its share: of the features that match the emotion, of all other
features, and of the error.

The first split leaves the remainder of the numerical integration; the second also what the change of the
gradient along the way does not let it account for. Both are reported. Two real interventions stand next to
them: only the logits see the push, and everything but the logits sees it; where the two do not add up to the
whole, the paths interact.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.push import Push
from emocircuits.errors import UserError
from emocircuits.graphs.components import ComponentGraph
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.steered import STEPS, PushedBatch, steered_graph
from emocircuits.names import TARGET, NodeId, format_node, parse_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.record import Change, forward
from emocircuits.passes.task import Task

DIRECT, REMAINDER = "direct", "remainder"
TOTAL, EDGES, REAL = "total", "edges", "real"
COLUMNS = ("split", "part", "amount", "ci_low", "ci_high", "share")


@dataclass(frozen=True, eq=False)
class Trace:
    """Where the effect of one push runs.

    Attributes:
        table: `split, part, amount, ci_low, ci_high, share`: `split` is `routes` (readers by kind), `readers`
            (block by block), a site, or `real` (interventions); amounts are in units of the metric and, but
            for `real`, add up to the whole within a split; shares are of the mean whole.
        total: M(steered) - M(unsteered) per prompt.
        steps: midpoints of the strength.
    """

    table: pd.DataFrame
    total: Float[np.ndarray, "prompt"]
    steps: int

    def share(self, split: str, part: str) -> float:
        """The share of one part of one split."""
        rows = self.table[(self.table["split"] == split) & (self.table["part"] == part)]
        return float(rows["share"].iloc[0])


def trace_pushes(
    task: Task,
    pushes: Sequence[Push],
    *,
    matched: Mapping[str, Collection[int]] | None = None,
    real: bool = True,
    steps: int = STEPS,
    seed: int = 0,
) -> list[Trace]:
    """Splits the effects of pushes, which share passes.

    Args:
        task: the metric and the prompts, whose corrupt side is pushed; at the sites of its SAEs the effects
            are split by features.
        pushes: the directions, all at one site.
        matched: site -> features that match the emotion.
        real: whether the two real interventions are run.
        steps: midpoints of the strength.
        seed: seed of the bootstrap.

    Raises:
        UserError: no push, or pushes at several sites.
    """
    if len({push.site for push in pushes}) != 1:
        raise UserError(
            f"{len(pushes)} pushes at {len({push.site for push in pushes})} sites", expected="one site"
        )
    whole = steered_graph(task.with_saes({}), pushes[0])
    # only the push writes: nothing else is asked for
    graph = ComponentGraph(whole.task, whole.writers[:1], whole.readers)
    order = np.argsort(task.prompts.index, kind="stable")
    found: list[list[dict[str, Tensor]]] = [[] for _ in pushes]
    for batch in task.batches():
        at_once = max(1, task.max_tokens // batch.corrupt.numel())
        for first in range(0, len(pushes), at_once):
            pushed = PushedBatch.of(task, batch, *pushes[first : first + at_once])
            parts = _measured(pushed, graph, steps, real)
            for place in range(pushed.count):
                rows = slice(place * len(batch), (place + 1) * len(batch))
                found[first + place].append({name: value[rows] for name, value in parts.items()})
    slots = [graph.slots[target] for target in graph.pairs[1]]
    return [
        _trace(
            {
                name: torch.cat([part[name] for part in own]).double().numpy(force=True)[order]
                for name in own[0]
            },
            slots,
            matched or {},
            steps,
            seed,
        )
        for own in found
    ]


def _measured(pushed: PushedBatch, graph: ComponentGraph, steps: int, real: bool) -> dict[str, Tensor]:
    """What the splits of one batch are made of, one row a prompt and push: the whole effect, the edges from
    the push, the shares of features and error by site, and what the real interventions do.
    """
    task = pushed.task
    sides = pushed.sides((*graph.value_taps, *task.saes))
    points = list(pushed.points(dict.fromkeys([*graph.taps, *task.saes]), steps, skip_unread=True))
    found = {
        TOTAL: sides.clean.metric - sides.corrupt.metric,
        EDGES: graph.averaged(sides, iter(points), edges=True).edge_effects(),
    }
    if real:
        found[REAL] = _interventions(pushed) - sides.corrupt.metric[:, None]
    for site, dictionary in task.saes.items():
        grad = sum(weight * point.grads[site] for weight, point in points)
        run = SiteRun(dictionary, sides.clean.values[site], sides.corrupt.values[site], grad)
        error = (run.delta_error * run.grad).sum((1, 2))[:, None]
        found[site] = torch.cat([(run.delta_features * run.feature_grad).sum(1), error], dim=1)
    return found


def _trace(
    parts: dict[str, np.ndarray],
    slots: list[str],
    matched: Mapping[str, Collection[int]],
    steps: int,
    seed: int,
) -> Trace:
    """The trace of one push, from its parts over all prompts."""
    total = parts.pop(TOTAL)
    columns = _by_reader(slots, parts.pop(EDGES), total)
    if REAL in parts:
        alone, others = parts.pop(REAL).T
        columns += [
            ("real", "only the logits see the push", alone),
            ("real", "all but the logits see the push", others),
        ]
    for site, own in parts.items():
        columns += _by_feature(site, own, total - own.sum(1), sorted(matched.get(site, ())))
    return Trace(_table(columns, total, seed), total, steps)


def _by_reader(
    slots: list[str], direct: Float[np.ndarray, "prompt slot"], total: Float[np.ndarray, "prompt"]
) -> list[tuple[str, str, np.ndarray]]:
    """The effect by what reads the push: by kind, and block by block."""
    columns: list[tuple[str, str, np.ndarray]] = []
    for split, name in (("routes", _route), ("readers", _part)):
        for part in sorted(set(map(name, slots)), key=lambda part: (part != DIRECT, part)):
            columns.append((split, part, direct[:, [name(slot) == part for slot in slots]].sum(1)))
        columns.append((split, REMAINDER, total - direct.sum(1)))
    return columns


@torch.no_grad()
def _interventions(pushed: PushedBatch) -> Float[Tensor, "prompt two"]:
    """The metric where only the logits read the push, and where all but the logits do."""
    task, push, last = pushed.task, pushed.push, pushed.task.anatomy.last

    def run(changes: Mapping[str, Change]) -> Tensor:
        tokens, index = pushed.batch.corrupt, pushed.batch.index
        with pushed.from_push():
            return forward(task, tokens, index, changes=changes, skip_unread=True).metric

    (into,), (out_of,) = push.change().values(), push.change(-1.0).values()
    alone = run({last: into})
    if push.site == last:
        return torch.stack([alone, run({})], dim=1)
    others = run({**push.change(), last: out_of})
    return torch.stack([alone, others], dim=1)


def _route(slot: str) -> str:
    """The kind of a reader, all blocks together."""
    if slot == TARGET:
        return DIRECT
    kind = parse_node(slot).slot
    return "MLPs" if kind is None else "attention values" if kind == "v" else "attention queries and keys"


def _part(slot: str) -> str:
    """What a slot belongs to in the table: the logits, one kind of input of a block's attention, or
    an MLP.
    """
    if slot == TARGET:
        return DIRECT
    node = parse_node(slot)
    if not node.is_slot:
        return f"MLP {node.layer}"
    return f"attention {node.layer}, {'values' if node.slot == 'v' else 'queries and keys'}"


def _by_feature(
    site: str,
    shares: Float[np.ndarray, "prompt part"],
    missing: Float[np.ndarray, "prompt"],
    matched: list[int],
) -> list[tuple[str, str, np.ndarray]]:
    rest = np.setdiff1d(np.arange(shares.shape[1] - 1), matched)
    parts = [
        (site, format_node(NodeId("feature", site=site, feature=feature)), shares[:, feature])
        for feature in matched
    ]
    return [
        *parts,
        (site, "matched features", shares[:, matched].sum(1)),
        (site, "other features", shares[:, rest].sum(1)),
        (site, "error", shares[:, -1]),
        (site, REMAINDER, missing),
    ]


def _table(columns: list[tuple[str, str, np.ndarray]], total: np.ndarray, seed: int) -> pd.DataFrame:
    values = np.stack([column for *_, column in columns] + [total], axis=1)
    low, high = bootstrap_interval(values, seed=seed)
    mean = values.mean(0)
    whole = mean[-1] if mean[-1] else np.nan
    rows = [
        (split, part, mean[i], low[i], high[i], mean[i] / whole) for i, (split, part, _) in enumerate(columns)
    ]
    return pd.DataFrame([*rows, ("whole", "whole", mean[-1], low[-1], high[-1], 1.0)], columns=list(COLUMNS))
