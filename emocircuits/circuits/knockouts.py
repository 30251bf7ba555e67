"""Does the circuit break where the model breaks? The same members knocked out of the circuit and of the whole
model.

    | F(C without K) - F(M without K) |        K: random subsets of C

(Wang et al. 2022, completeness; AutoCircuit's "same under knockouts".) A circuit that leaves out a backup
keeps working worse than the model does, and the gap shows it.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool

from emocircuits.circuits.scorer import FaithfulnessScorer
from emocircuits.numerics import generator

DRAWS = 10


def knockouts(
    scorer: FaithfulnessScorer, choice: Bool[np.ndarray, "item"], *, draws: int = DRAWS
) -> dict[str, Any]:
    """Random subsets of a circuit, from one member to half of it, knocked out of circuit and model.

    Args:
        scorer: where it is scored.
        choice: the circuit.
        draws: how many subsets.

    Returns:
        Plain values: mean_gap, largest_gap, points [{size, circuit, model}].
    """
    members = np.flatnonzero(choice)
    rng = generator(scorer.seed, "knockouts")
    sets = [
        rng.choice(members, size=int(rng.integers(1, max(2, len(members) // 2 + 1))), replace=False)
        for _ in range(draws)
    ]
    rows = np.concatenate([np.repeat(choice[None], draws, axis=0), np.ones((draws, len(choice)), dtype=bool)])
    for number, out in enumerate(sets):
        rows[number, out] = rows[draws + number, out] = False
    kept = scorer.f(scorer.values(rows, np.arange(2 * draws) >= draws))
    gaps = np.abs(kept[:draws] - kept[draws:])
    return {
        "mean_gap": float(gaps.mean()),
        "largest_gap": float(gaps.max()),
        "points": [
            {"size": len(out), "circuit": float(kept[number]), "model": float(kept[draws + number])}
            for number, out in enumerate(sets)
        ],
    }
