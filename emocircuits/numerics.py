"""Small numerical pieces that must be the same everywhere: seeds, intervals, corrections, bfloat16 bit
patterns.
"""

import hashlib

import numpy as np
from jaxtyping import Float, UInt16
from scipy import stats

CACHED = 1 << 14  # numbers that stay in the processor's cache through several passes


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """A random generator that is a pure function of a seed and keys (independent streams for
    different keys).
    """
    words = [seed] + [
        int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:8], "little") for key in keys
    ]
    return np.random.default_rng(words)


def bf16_bits(values: Float[np.ndarray, "..."]) -> UInt16[np.ndarray, "..."]:
    """float32 -> bfloat16 bit patterns, rounding to nearest even (NumPy has no bfloat16)."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    out, work = np.empty(values.shape, dtype=np.uint16), np.empty(CACHED, dtype=np.uint32)
    flat, target = values.reshape(-1), out.reshape(-1)
    for first in range(0, flat.size, CACHED):
        part = flat[first : first + CACHED]
        bits, rounded = part.view(np.uint32), work[: part.size]
        np.right_shift(bits, 16, out=rounded)
        rounded &= np.uint32(1)
        rounded += np.uint32(0x7FFF)
        rounded += bits
        nan = np.isnan(part)
        if nan.any():
            rounded[nan] = bits[nan] | np.uint32(0x400000)
        rounded >>= 16
        target[first : first + CACHED] = rounded
    return out


def from_bf16_bits(bits: UInt16[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """bfloat16 bit patterns -> float32, exact."""
    wide = np.array(bits, dtype=np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def bootstrap_interval(
    values: Float[np.ndarray, "prompt *rest"], *, seed: int = 0, n: int = 1000, level: float = 0.95
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Percentile bootstrap interval of the mean over the first axis (Efron & Tibshirani 1993, ch. 13).

    Args:
        values: one value per prompt (and any further axes, resampled together).
        seed: seed of the resampling.
        n: number of resamples.
        level: coverage, e.g. 0.95.

    Returns:
        Lower and upper end, each of the shape of one prompt's value.
    """
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    weights = generator(seed, "bootstrap").multinomial(count, np.full(count, 1 / count), size=n) / count
    means = weights @ values.reshape(count, -1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def wilson_interval(successes: int | float, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927)."""
    z = stats.norm.ppf((1 + level) / 2)
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return float(centre - half), float(centre + half)


def fisher_interval(r: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a Pearson correlation over n pairs by Fisher's z (1921); (-1, 1) for fewer than
    four pairs.
    """
    if n < 4:
        return -1.0, 1.0
    z, half = np.arctanh(np.clip(r, -0.999999, 0.999999)), stats.norm.ppf((1 + level) / 2) / np.sqrt(n - 3)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def benjamini_hochberg(p_values: Float[np.ndarray, "test"]) -> Float[np.ndarray, "test"]:
    """q-values of Benjamini & Hochberg (1995)."""
    return stats.false_discovery_control(np.asarray(p_values, dtype=np.float64), method="bh")
