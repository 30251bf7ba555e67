"""The verified search on random circuits whose truth brute force finds: `python -m tests.benchmarks.random_circuits [--count 500]`.

A third of a second each (`tests/planted/random_circuits.py`). An edge is true where a real patch of it, in the corrupt or the clean run, moves
the metric by at least 2 % of its difference between the two.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

sys.path.append(str(Path(__file__).parents[1]))
from planted.random_circuits import metric, random_circuit

import emocircuits
from emocircuits.attribution.exact_graph import exact_graph
from emocircuits.attribution.graph import component_graph
from emocircuits.models.anatomy import open_anatomy

LEAST, MOVES = 0.02, 0.2  # share of the metric's difference that makes an edge true; differences below this are not judged


@dataclass(frozen=True)
class Judged:
    """One circuit.

    Attributes:
        seed: its number.
        truth, found: edges of brute force and of the search.
        share: passes of the search over those of exact patching.
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
        graph, truth = component_graph(open_anatomy(model, batch.corrupt)), set()
        for background in ("corrupt", "clean"):
            exact = exact_graph(graph, [batch], metric, background=background)
            scale = float(np.abs(exact.metric_clean - exact.metric_corrupt).mean())
            truth |= _above(exact.edge_table(), "effect", LEAST * scale)
        if scale < MOVES:
            continue
        search, plain = (emocircuits.attribute(model, batch.clean, batch.corrupt, metric, nodes="components", method=method)
                         for method in ("verified", "integrated_gradients"))
        found = _above(search.edge_table(), "verified", LEAST * scale)
        yield Judged(seed, frozenset(truth), frozenset(found), search.passes / exact.passes,
                     *(_auroc(result.edge_table(), truth) for result in (search, plain)))


def _above(table, column: str, least: float) -> set[tuple[str, str]]:  # noqa: ANN001
    strong = table[table[column].abs() > least]
    return set(zip(strong.source, strong.target, strict=True))


def _auroc(table, truth: set[tuple[str, str]]) -> float:  # noqa: ANN001
    labels = [edge in truth for edge in zip(table.source, table.target, strict=True)]
    return float(roc_auc_score(labels, table.effect.abs()))


def main() -> int:
    """Prints what was missed and invented; 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="how many circuits to draw")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    circuits = list(judged(range(parser.parse_args().count)))
    missed, invented = (sum(len(part) for part in parts) for parts in
                        ([one.truth - one.found for one in circuits], [one.found - one.truth for one in circuits]))
    shares = [one.share for one in circuits]
    gradient = float(np.mean([one.gradient >= 0.97 for one in circuits]))
    print(f"{len(circuits)} circuits, {sum(len(one.truth) for one in circuits)} true edges: {missed} missed, {invented} invented")
    print(f"AUROC of the search: least {min(one.verified for one in circuits):.3f}; of its gradients alone at least 0.97 in {100 * gradient:.1f} %")
    print(f"passes over those of exact patching: mean {np.mean(shares):.2f}, most {max(shares):.2f} (at most 0.4)")
    return int(missed > 0 or invented > 0 or max(shares) > 0.4)


if __name__ == "__main__":
    sys.exit(main())
