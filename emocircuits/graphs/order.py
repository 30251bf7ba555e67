"""The order in which circuits of growing size take what they are chosen from."""

import heapq

import numpy as np
from jaxtyping import Bool, Float, Int

from emocircuits.numerics import bootstrap_interval


def balanced_top(
    strength: Float[np.ndarray, "node"], chosen: Bool[np.ndarray, "node"], sites: np.ndarray, most: int
) -> list[int]:
    """The strongest nodes, balanced over the sites.

    Sites lie one after the other, and all that reaches the metric passes through every one of them, so a
    circuit is as good as its thinnest site. One node per site comes first, then always the next strongest
    chosen one of the site that so far covers the smallest share of its strength.

    Args:
        strength: how strong each node is; 0 for those that are not certain.
        chosen: which may be taken; the strongest one of a site always may.
        sites: the site of each node.
        most: how many at most.

    Returns:
        Places of the nodes, in the order in which they are taken.
    """
    queues, total = {}, {}
    for site in dict.fromkeys(sites):
        here = np.flatnonzero(sites == site)
        order = here[np.argsort(-strength[here], kind="stable")]
        queues[site] = [
            int(place)
            for rank, place in enumerate(order)
            if chosen[place] or (rank == 0 and strength[place] > 0)
        ]
        total[site] = max(float(strength[here].sum()), 1e-30)
    covered = dict.fromkeys(queues, 0.0)
    taken: list[int] = []
    while len(taken) < most and any(queues.values()):
        site = min((site for site in queues if queues[site]), key=covered.__getitem__)
        place = queues[site].pop(0)
        taken.append(place)
        covered[site] += float(strength[place]) / total[site]
    return taken


def balanced_order(
    effects: Float[np.ndarray, "prompt node"], sites: Int[np.ndarray, "node"]
) -> Int[np.ndarray, "node"]:
    """All nodes: the certain ones balanced over the sites, then those whose interval holds 0, by strength."""
    strength = np.abs(effects.mean(0, dtype=np.float64))
    low, high = bootstrap_interval(effects)
    certain = (low > 0) | (high < 0)
    first = balanced_top(np.where(certain, strength, 0.0), certain, sites, len(strength))
    rest = np.argsort(-strength, kind="stable")
    return np.array([*first, *rest[~np.isin(rest, first)]], dtype=np.int64)


def greedy_order(
    strength: Float[np.ndarray, "edge"],
    pairs: tuple[Int[np.ndarray, "edge"], Int[np.ndarray, "edge"]],
    feeds: Bool[np.ndarray, "slot node"],
    start: int,
) -> Int[np.ndarray, "edge"]:
    """Edges from the logits back: each time the strongest edge into what is reached already (the greedy
    search of EAP and MIB).

    Args:
        strength: how strong each edge is.
        pairs: node and slot of every edge.
        feeds: which nodes each slot is read for.
        start: the slot of the logits.
    """
    sources, targets = pairs
    incoming: dict[int, list[int]] = {}
    for edge, target in enumerate(targets.tolist()):
        incoming.setdefault(target, []).append(edge)
    waiting = [(-strength[edge], edge) for edge in incoming.get(start, ())]
    heapq.heapify(waiting)
    reached, taken = set(), []
    while waiting:
        _, edge = heapq.heappop(waiting)
        taken.append(edge)
        source = int(sources[edge])
        if source in reached:
            continue
        reached.add(source)
        for slot in np.flatnonzero(feeds[:, source]):
            for more in incoming.get(int(slot), ()):
                heapq.heappush(waiting, (-strength[more], more))
    left = np.setdiff1d(np.argsort(-strength, kind="stable"), taken, assume_unique=True)
    return np.array([*taken, *left], dtype=np.int64)
