"""The verified search on random circuits whose truth brute force finds: `python -m
tests.benchmarks.random_circuits [--count 500]`.

A third of a second each (`tests/planted/random_circuits.py`). An edge is true where a real patch of it, in
the corrupt or the clean run, moves the metric by at least 2 % of its difference between the two.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))
from planted.brute_force import LEAST, auroc, edges_of, true_edges
from planted.random_circuits import metric, random_circuit

import emocircuits

SHARE = 0.4  # of the passes of exact patching, which the search may spend
MOVES = 0.2  # circuits whose metric differs less between the runs are not judged


@dataclass(frozen=True)
class Judged:
    """One circuit.

    Attributes:
        seed: its number.
        truth, found: edges of brute force and of the search.
        share: passes of the search over those of exact patching; it was given at most 0.4 of them.
        verified, gradient: AUROC of true edges by the search and by integrated gradients alone.
    """

    seed: int
    truth: frozenset[tuple[str, str]]
    found: frozenset[tuple[str, str]]
    share: float
    verified: float
    gradient: float


def judged(seeds: range) -> Iterator[Judged]:
    """Those circuits whose metric differs between clean and corrupt."""
    for seed in seeds:
        model, batch = random_circuit(seed)
        truth, scale, passes = true_edges(model, batch, metric)
        if scale < MOVES:
            continue
        given = model, batch.clean, batch.corrupt, metric
        budget = int(SHARE * passes)
        search = emocircuits.attribute(*given, nodes="components", method="verified", budget=budget)
        plain = emocircuits.attribute(*given, nodes="components", method="integrated_gradients")
        found = edges_of(search.edge_table(), "verified", LEAST * scale)
        yield Judged(
            seed,
            truth,
            frozenset(found),
            search.passes / passes,
            *(auroc(result.edge_table(), truth) for result in (search, plain)),
        )


def main() -> int:
    """Prints what was missed and invented; 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="how many circuits to draw")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    circuits = list(judged(range(parser.parse_args().count)))
    missed, invented = (
        sum(len(part) for part in parts)
        for parts in (
            [one.truth - one.found for one in circuits],
            [one.found - one.truth for one in circuits],
        )
    )
    shares = [one.share for one in circuits]
    gradient = float(np.mean([one.gradient >= 0.97 for one in circuits]))
    print(
        f"{len(circuits)} circuits, {sum(len(one.truth) for one in circuits)} true edges: {missed} missed, "
        f"{invented} invented"
    )
    print(
        f"AUROC of the search: least {min(one.verified for one in circuits):.3f}; of its gradients alone at "
        f"least 0.97 in {100 * gradient:.1f} %"
    )
    print(
        f"passes over those of exact patching: mean {np.mean(shares):.2f}, most "
        f"{max(shares):.2f} (at most {SHARE})"
    )
    return int(missed > 0 or invented > 0 or max(shares) > SHARE)


if __name__ == "__main__":
    sys.exit(main())
