"""Do two behaviours share a core? How much of two circuits is common, next to what chance gives."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.errors import UserError
from emocircuits.names import parse_node


@dataclass(frozen=True)
class Overlap:
    """What two circuits have in common.

    Attributes:
        shared: nodes in both.
        jaccard: shared / in either.
        chance_jaccard: the same for two sets drawn at random among the candidates of each site, with as many
            nodes per site.
        p_value: chance of sharing at least as many (Poisson–binomial over sites by its normal limit,
            one-sided).
        effect_correlation: Spearman correlation of mean effects over the nodes that are candidates in both.
        candidates: how many these are.
        nodes: the shared nodes, strongest (by the smaller of the two absolute effects, each as a share of its
            metric's change) first.
    """

    shared: int
    jaccard: float
    chance_jaccard: float
    p_value: float
    effect_correlation: float
    candidates: int
    nodes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "nodes": list(self.nodes)}


def overlap(
    first: AttributionResult,
    first_nodes: Sequence[str],
    second: AttributionResult,
    second_nodes: Sequence[str],
) -> Overlap:
    """Compares two circuits of the same SAEs.

    Args:
        first, second: effects of all candidates on each behaviour.
        first_nodes, second_nodes: the circuits.

    Raises:
        UserError: an empty circuit, or results without a common node.
    """
    if not first_nodes or not second_nodes:
        raise UserError("the overlap with an empty circuit", expected="two circuits with nodes")
    means = [
        dict(zip(result.nodes, result.effects.mean(0).tolist(), strict=True)) for result in (first, second)
    ]
    common = [node for node in first.nodes if node in means[1]]
    if len(common) < 3:
        raise UserError(
            f"the two behaviours have {len(common)} candidate nodes in common",
            expected="at least 3",
            cure="compare circuits of the same model and SAEs",
        )
    shared = set(first_nodes) & set(second_nodes)
    either = len(set(first_nodes) | set(second_nodes))
    expected, variance = _chance(first, first_nodes, second, second_nodes)
    sizes = len(set(first_nodes)) + len(set(second_nodes))
    z = (len(shared) - 0.5 - expected) / max(variance, 1e-12) ** 0.5
    scales = [
        float(np.abs(result.metric_clean - result.metric_corrupt).mean()) or 1.0 for result in (first, second)
    ]
    strength = {
        node: min(abs(mean[node]) / scale for mean, scale in zip(means, scales, strict=True))
        for node in shared
    }
    return Overlap(
        shared=len(shared),
        jaccard=len(shared) / either,
        chance_jaccard=expected / max(sizes - expected, 1e-12),
        p_value=float(stats.norm.sf(z)),
        effect_correlation=float(
            stats.spearmanr(*[[mean[node] for node in common] for mean in means]).statistic
        ),
        candidates=len(common),
        nodes=tuple(sorted(shared, key=lambda node: (-strength[node], node))),
    )


def _chance(
    first: AttributionResult,
    first_nodes: Sequence[str],
    second: AttributionResult,
    second_nodes: Sequence[str],
) -> tuple[float, float]:
    """Mean and variance of the number of shared nodes under random draws within sites (hypergeometric at
    every site).
    """
    expected = variance = 0.0
    sites = [
        [parse_node(node).site for node in nodes]
        for nodes in (first.nodes, second.nodes, first_nodes, second_nodes)
    ]
    for site in dict.fromkeys(sites[2]):
        union = len(
            {
                node
                for result, place in ((first, 0), (second, 1))
                for node, where in zip(result.nodes, sites[place], strict=True)
                if where == site
            }
        )
        n, m = sites[2].count(site), sites[3].count(site)
        expected += n * m / union
        if union > 1:
            variance += n * m * (union - n) * (union - m) / (union**2 * (union - 1))
    return expected, variance
