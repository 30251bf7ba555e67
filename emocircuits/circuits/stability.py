"""Would other prompts have given the same circuit? Bootstrap over prompts of the choice of nodes (cf. arXiv
2510.00845).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from emocircuits.errors import UserError
from emocircuits.numerics import generator


@dataclass(frozen=True)
class BootstrapStability:
    """Stability over resamples of the prompts.

    Attributes:
        jaccard: mean Jaccard index of a resample's circuit with the circuit of all prompts.
        pairwise_jaccard: mean Jaccard index between circuits of different resamples.
        rank_correlation: mean Spearman correlation of |mean effect| with that of all prompts, over nodes in
            either's circuit.
        resamples: how many resamples.
        nodes: size of the circuits.
    """

    jaccard: float
    pairwise_jaccard: float
    rank_correlation: float
    resamples: int
    nodes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def stability(
    effects: Float[np.ndarray, "prompt node"], n_nodes: int, *, resamples: int = 200, seed: int = 0
) -> BootstrapStability:
    """Resamples prompts and chooses the `n_nodes` nodes of largest |mean effect| each time.

    Args:
        effects: effect of every candidate node, per prompt.
        n_nodes: size of the circuit.
        resamples: how many bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        UserError: fewer than two prompts, or no node.
    """
    n_prompts, n_candidates = effects.shape
    n_nodes = min(n_nodes, n_candidates)
    if n_prompts < 2 or n_nodes < 1:
        raise UserError(
            f"stability over {n_prompts} prompts and {n_nodes} nodes",
            expected="at least 2 prompts and 1 node",
        )
    even = np.full(n_prompts, 1 / n_prompts)
    weights = generator(seed, "stability").multinomial(n_prompts, even, size=resamples) / n_prompts
    strength = np.abs(weights @ effects.astype(np.float64))
    reference = np.abs(effects.mean(0, dtype=np.float64))
    chosen = np.zeros((resamples, n_candidates), dtype=np.float64)
    np.put_along_axis(chosen, np.argsort(-strength, axis=1, kind="stable")[:, :n_nodes], 1.0, axis=1)
    whole = np.zeros(n_candidates)
    whole[np.argsort(-reference, kind="stable")[:n_nodes]] = 1.0
    shared = chosen @ whole
    between = (chosen @ chosen.T)[np.triu_indices(resamples, 1)]
    ranks = []
    for number in range(resamples):
        either = (chosen[number] + whole) > 0
        a, b = strength[number, either], reference[either]
        ranks.append(stats.spearmanr(a, b).statistic if len(a) > 1 and a.std() and b.std() else 1.0)
    return BootstrapStability(
        float((shared / (2 * n_nodes - shared)).mean()),
        float((between / (2 * n_nodes - between)).mean()),
        float(np.mean(ranks)),
        resamples,
        n_nodes,
    )
