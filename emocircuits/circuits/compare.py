"""Attribution against exact patching: does the cheap number tell the truth, in rank, in scale and in sign?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.errors import UserError
from emocircuits.numerics import generator


@dataclass(frozen=True)
class PatchAgreement:
    """How well attributed effects predict exact ones.

    Attributes:
        nodes: number of nodes compared.
        pearson: correlation over nodes.
        slope: least squares through the origin of exact on attributed effects; 1 is perfect, above 1 means
            that attribution underestimates. A correlation alone hides an error of scale.
        sign_agreement: share of the strong nodes whose signs agree (1.0 where there is none).
        strong_nodes: nodes whose exact effect is at least 1 % of the metric's change.
    """

    nodes: int
    pearson: float
    slope: float
    sign_agreement: float
    strong_nodes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_effects(
    attributed: Float[np.ndarray, "node"],
    exact: Float[np.ndarray, "node"],
    *,
    scale: float,
    strong: float = 0.01,
) -> PatchAgreement:
    """Compares mean effects of the same nodes.

    Args:
        attributed: effects of a gradient method.
        exact: effects of real patches.
        scale: mean |metric(clean) - metric(corrupt)|.
        strong: share of `scale` from which a node's sign counts.

    Raises:
        UserError: fewer than two nodes, or effects without any spread.
    """
    x, y = np.asarray(attributed, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        raise UserError(
            f"{len(x)} nodes to compare, effects without spread"
            if len(x) > 1
            else f"{len(x)} nodes to compare",
            expected="at least two nodes with different effects",
        )
    counts = np.abs(y) >= strong * scale
    signs = (np.sign(x) == np.sign(y))[counts]
    return PatchAgreement(
        len(x),
        float(np.corrcoef(x, y)[0, 1]),
        float(x @ y / (x @ x)),
        float(signs.mean()) if counts.any() else 1.0,
        int(counts.sum()),
    )


def patch_agreement(result: AttributionResult) -> PatchAgreement:
    """Compares the effects of a result with its own verified effects.

    Raises:
        UserError: fewer than two verified nodes.
    """
    done = np.zeros(len(result.nodes), bool) if result.verified is None else np.isfinite(result.verified)
    scale = float(np.abs(result.metric_clean - result.metric_corrupt).mean())
    return compare_effects(
        result.effects.mean(0)[done], result.verified[done] if done.any() else np.zeros(0), scale=scale
    )


def nodes_to_verify(
    result: AttributionResult, n: int, *, random_share: float = 0.2, seed: int = 0
) -> tuple[str, ...]:
    """Nodes for exact patching: the strongest, and a random sample of the others, which shows what the
    ranking misses.
    """
    order = np.argsort(-np.abs(result.effects.mean(0)), kind="stable")
    strongest = order[: n - int(n * random_share)]
    rest = order[len(strongest) :]
    count = min(n - len(strongest), len(rest))
    drawn = generator(seed, "verify").choice(rest, size=count, replace=False) if count else ()
    return tuple(result.nodes[int(place)] for place in (*strongest, *drawn))
