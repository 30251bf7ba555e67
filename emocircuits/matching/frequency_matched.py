"""Random features that fire as often as given ones: the control of every claim about features."""

import numpy as np
from jaxtyping import Float, Int


def frequency_matched(
    chosen: Int[np.ndarray, "_"],
    density: Float[np.ndarray, "feature"],
    pool: Int[np.ndarray, "_"],
    source: np.random.Generator,
    *,
    nearest: int = 12,
    ordered: bool = False,
) -> Int[np.ndarray, "_"]:
    """As many different features of the pool, none of the chosen: for each one of the `nearest` in log firing
    rate, at random.

    Args:
        chosen: features to be matched; one that comes twice gets two.
        density: firing rate of every feature.
        pool: features that may stand in; where it runs out there are fewer.
        source: random generator.
        nearest: how many candidates each has.
        ordered: in the order of `chosen` rather than ascending.
    """
    left = np.setdiff1d(pool, chosen)
    rate = np.log(np.maximum(density, 1e-9))
    found = np.full(len(chosen), -1, dtype=np.int64)
    for place in source.permutation(len(chosen)):
        if not len(left):
            break
        near = left[np.argsort(np.abs(rate[left] - rate[chosen[place]]), kind="stable")[:nearest]]
        found[place] = source.choice(near)
        left = left[left != found[place]]
    found = found[found >= 0]
    return found if ordered else np.sort(found)
