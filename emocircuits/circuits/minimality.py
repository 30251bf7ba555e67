"""Is anything in the circuit superfluous? Members left out one by one, then dropped together as long as
nothing is lost.

    loss of v = F(C) - F(C without v)

`redundant_share` is the share of members whose loss is below 1 % in size. Greedy: members are dropped in the
order of their loss, the smallest first, as far as F stays within 1 % of F(C); what is left is the size the
circuit could have had.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool

from emocircuits.circuits.scorer import FaithfulnessScorer, log_sizes

TOLERANCE, ROUND = 0.01, 12


def minimality(
    scorer: FaithfulnessScorer, choice: Bool[np.ndarray, "item"], *, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """What the members of a circuit are good for.

    Args:
        scorer: where it is scored.
        choice: the circuit.
        tolerance: loss of F below which a member is superfluous; for the greedy drop, as a share of |F(C)|.

    Returns:
        Plain values: redundant_share, losses {member: loss}, minimal_size, minimal_faithfulness, minimal
            (members), tolerance.
    """
    members = np.flatnonzero(choice)
    rows = np.repeat(choice[None], len(members) + 1, axis=0)
    rows[np.arange(len(members)), members] = False
    kept = scorer.f(scorer.values(rows))
    whole, losses = float(kept[-1]), kept[-1] - kept[:-1]
    dropped, left = _greedy(
        scorer, choice, members[np.argsort(losses, kind="stable")], whole - tolerance * abs(whole)
    )
    names = scorer.candidates.graph.items
    kept = [names[member] for member in members if member not in dropped]
    return {
        "redundant_share": float((np.abs(losses) < tolerance).mean()),
        "tolerance": tolerance,
        "losses": {names[member]: float(loss) for member, loss in zip(members, losses, strict=True)},
        "minimal_size": len(kept),
        "minimal_faithfulness": whole if not dropped else left,
        "minimal": kept,
    }


def _greedy(
    scorer: FaithfulnessScorer, choice: Bool[np.ndarray, "item"], order: np.ndarray, least: float
) -> tuple[set[int], float]:
    """The longest prefix of an order that can go: two rounds, a coarse one and one between its neighbours."""
    best, value, beyond = 0, float("nan"), len(order)
    tries = [size for size in log_sizes(len(order), ROUND) if size < len(order)]
    for _ in range(2):
        if not tries:
            break
        rows = np.repeat(choice[None], len(tries), axis=0)
        for row, size in enumerate(tries):
            rows[row, order[:size]] = False
        kept = scorer.f(scorer.values(rows))
        good = [place for place in range(len(tries)) if kept[place] >= least]
        if good:
            best, value = tries[good[-1]], float(kept[good[-1]])
        beyond = min(
            [size for place, size in enumerate(tries) if size > best and kept[place] < least], default=beyond
        )
        tries = sorted(
            {int(size) for size in np.linspace(best + 1, beyond - 1, ROUND)} if beyond - best > 1 else set()
        )
    return set(order[:best].tolist()), value
