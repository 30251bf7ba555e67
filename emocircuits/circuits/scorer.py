"""F(C) of many choices among the same items, on the same held-out prompts, under one ablation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from emocircuits.circuits.candidates import Candidates
from emocircuits.circuits.faithfulness import faithfulness_interval, refuse_no_gap
from emocircuits.graphs.graph import Choices, CircuitRunner
from emocircuits.numerics import generator


@dataclass(frozen=True, eq=False)
class FaithfulnessScorer:
    """Runs choices and turns the metric into faithfulness. Build it with `FaithfulnessScorer.open`.

    Attributes:
        candidates: what is chosen from.
        runner: runs choices on the held-out prompts.
        ablation: what all else is set to.
        full, empty: the metric with everything and with nothing kept, per prompt.
        seed: seed of intervals and draws.
    """

    candidates: Candidates
    runner: CircuitRunner
    ablation: str
    full: Float[np.ndarray, "prompt"]
    empty: Float[np.ndarray, "prompt"]
    seed: int = 0

    @classmethod
    def open(
        cls, candidates: Candidates, runner: CircuitRunner, ablation: str = "resample", seed: int = 0
    ) -> "FaithfulnessScorer":
        """Measures the two ends.

        Raises:
            UserError: an unknown ablation, or a metric that does not differ between full and empty.
        """
        ends = np.zeros((2, len(candidates.graph.items)), dtype=bool)
        ends[1] = True
        empty, full = runner.run(ends, ends[:, 0].copy(), ablation=ablation).astype(np.float64)
        refuse_no_gap(full, empty, ablation)
        return cls(candidates, runner, ablation, full, empty, seed)

    def values(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"] | bool = False,
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        """The metric under each choice, each different choice run once; see `CircuitRunner.run`."""
        rest = np.broadcast_to(np.asarray(rest, dtype=bool), len(choices))
        packed = np.packbits(np.column_stack([choices, rest]), axis=1)
        _, first, back = np.unique(packed, axis=0, return_index=True, return_inverse=True)
        values = self.runner.run(choices[first], rest[first], ablation=self.ablation, errors=errors)
        return values.astype(np.float64)[back.reshape(-1)]

    def f(self, values: Float[np.ndarray, "*circuit prompt"]) -> Float[np.ndarray, "*circuit"]:
        """Faithfulness of metrics."""
        return np.asarray((values.mean(-1) - self.empty.mean()) / (self.full.mean() - self.empty.mean()))

    def interval(self, values: Float[np.ndarray, "prompt"]) -> tuple[float, float]:
        """Bootstrap interval of one circuit's faithfulness over prompts."""
        return faithfulness_interval(values, self.full, self.empty, seed=self.seed)

    def point(
        self, values: Float[np.ndarray, "prompt"], choice: Bool[np.ndarray, "item"]
    ) -> dict[str, float | int]:
        """One circuit as plain values: size, errors among it, faithfulness and its interval."""
        low, high = self.interval(values)
        return {
            "size": int(choice.sum()),
            "errors": int((choice & self.candidates.graph.errors).sum()),
            "faithfulness": float(self.f(values)),
            "ci_low": low,
            "ci_high": high,
        }


def first_of(order: np.ndarray, sizes: Sequence[int], n: int) -> Choices:
    """The first so many of an order over some of n items, one choice per size."""
    rows = np.zeros((len(sizes), n), dtype=bool)
    for row, size in zip(rows, sizes, strict=True):
        row[order[:size]] = True
    return rows


def log_sizes(n: int, points: int) -> list[int]:
    """Sizes from 1 to n, evenly spaced on a logarithmic axis."""
    return sorted({int(round(size)) for size in np.geomspace(1, n, points)}) if n else []


def random_alike(
    candidates: Candidates, choice: Bool[np.ndarray, "item"], *, seed: int = 0, draw: int = 0
) -> Bool[np.ndarray, "item"]:
    """A random choice with as many members in each group (site, or slots of one part) as a given one has."""
    return _filled(candidates, choice, generator(seed, "random circuit", draw).random(len(choice)))


def largest_alike(
    candidates: Candidates, choice: Bool[np.ndarray, "item"], strength: Float[np.ndarray, "item"]
) -> Bool[np.ndarray, "item"]:
    """The items of largest strength, as many in each group as a given choice has."""
    return _filled(candidates, choice, strength)


def _filled(
    candidates: Candidates, choice: Bool[np.ndarray, "item"], rank_by: np.ndarray
) -> Bool[np.ndarray, "item"]:
    groups, out = candidates.graph.groups, np.zeros(len(choice), dtype=bool)
    for group in np.unique(groups[choice]):
        here = np.flatnonzero(groups == group)
        out[here[np.argsort(-rank_by[here], kind="stable")][: int(choice[here].sum())]] = True
    return out
