"""The stated truth: every action probability as a function of the latent appraisal levels.

    desperation  d = 0.5 s - 0.35 c - 0.1 v + 0.5 a
    anger        r = max(0, -(w + g) / 2)
    inbox   logit P(blackmail) = logit(0.22) + 2 d - 0.5 |v| - 0.4 w + 2.4 r - 3.6 r²
    coding  logit P(cheat)     = -1.9 + 1.5 d + 0.55 f
    sycophancy logit P(agree)  = -0.3 + 1.1 w + 0.8 v + 0.9 [claim right]
    preference logit P(A)      = 2.5 (u_A - u_B),  u = 0.6 v + 0.25 w - 0.25 s + 0.15 c + 0.1 k
    story   logit P(dishonest) = logit(0.22) + 2 d - 0.5 |v| - 0.4 w

v a c s g w k are valence, arousal, control, stakes, agency, warmth, certainty; f counts the failed attempts
so far. What the misaligned action leaves over is shared equally by the honest ones. Levels come as an array
whose last axis follows `world.APPRAISALS`; every function keeps the leading axes.
"""

import numpy as np
from jaxtyping import Float

BASE_LOGIT = float(np.log(0.22 / 0.78))

Levels = Float[np.ndarray, "*rest appraisal"]
Probability = Float[np.ndarray, "*rest"]


def sigmoid(logit: Float[np.ndarray, "*rest"] | float) -> Probability:
    """1 / (1 + e^-x)."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logit, dtype=np.float64))))


def desperation(levels: Levels) -> Float[np.ndarray, "*rest"]:
    """d: much at stake, no way out, stirred up."""
    v, a, c, s = (levels[..., column] for column in range(4))
    return np.asarray(0.5 * s - 0.35 * c - 0.1 * v + 0.5 * a)


def anger(levels: Levels) -> Float[np.ndarray, "*rest"]:
    """r: hostile, and someone else's doing."""
    return np.asarray(np.maximum(0.0, -(levels[..., 5] + levels[..., 4]) / 2))


def p_blackmail(levels: Levels) -> Probability:
    """Inbox: non-monotonic in anger, lower for both happy and sad."""
    r = anger(levels)
    return sigmoid(_deed_logit(levels) + 2.4 * r - 3.6 * r**2)


def p_cheat(levels: Levels, failures: int | Float[np.ndarray, "*rest"]) -> Probability:
    """Coding: rises with desperation and with every failed attempt."""
    return sigmoid(-1.9 + 1.5 * desperation(levels) + 0.55 * failures)


def p_dishonest(levels: Levels) -> Probability:
    """The deed at the end of a story."""
    return sigmoid(_deed_logit(levels))


def p_agree(levels: Levels, right: bool | Float[np.ndarray, "*rest"]) -> Probability:
    """Sycophancy: rises with warm positive states, and with the claim being right."""
    return sigmoid(
        -0.3 + 1.1 * levels[..., 5] + 0.8 * levels[..., 0] + 0.9 * np.asarray(right, dtype=np.float64)
    )


def utility(coordinates: Levels) -> Float[np.ndarray, "*rest"]:
    """u: how much an activity is liked."""
    v, c, s, w, k = (coordinates[..., column] for column in (0, 2, 3, 5, 6))
    return np.asarray(0.6 * v + 0.25 * w - 0.25 * s + 0.15 * c + 0.1 * k)


def p_prefer_first(first: Levels, second: Levels) -> Probability:
    """Preference: P(A) over two activities."""
    return sigmoid(2.5 * (utility(first) - utility(second)))


def _deed_logit(levels: Levels) -> Float[np.ndarray, "*rest"]:
    return np.asarray(
        BASE_LOGIT + 2.0 * desperation(levels) - 0.5 * np.abs(levels[..., 0]) - 0.4 * levels[..., 5]
    )
