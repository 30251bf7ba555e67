"""Circuits of a finished run next to their bars: `python -m tests.benchmarks.circuits [RUN]`.

All numbers were measured by the run's evaluate stage on prompts that nothing was found on. RUN is a run of
the default recipe; it is made where there is none.
"""

from collections.abc import Iterator

from emocircuits.artifacts.scores import CircuitScores
from emocircuits.runs.run import Run
from tests.benchmarks.bars import Row, at_least, at_most, beside, command

PARTS = ("attribution", "circuit", "stability")


def measure(run: Run, small: bool, parts: tuple[str, ...] = PARTS) -> Iterator[Row]:
    """All rows, behaviour by behaviour."""
    scores = run.scores
    for name in run.recipe.behaviours:
        one = scores[name]
        for part in parts:
            yield from {
                "attribution": attribution_rows,
                "circuit": circuit_rows,
                "stability": stability_rows,
            }[part](name, one)


def attribution_rows(name: str, one: CircuitScores) -> Iterator[Row]:
    """Integrated gradients against real patches: the mean of putting a node's clean value into the corrupt
    run and taking it out of the clean one.
    """
    found = one.attribution_exact
    note = "; ".join(
        f"{side} alone: r {getattr(found, side).pearson:.3f}, slope {getattr(found, side).slope:.2f}"
        for side in ("denoise", "noise")
    )
    yield at_least(
        f"{name}: attribution and real patches of {found.n} nodes, Pearson", found.pearson, 0.95, note
    )
    yield Row(f"{name}: slope", "0.8 to 1.25", found.slope, 0.8 <= found.slope <= 1.25)
    yield at_least(f"{name}: same sign, of {found.strong_nodes} nodes above 1 %", found.sign_agreement, 0.98)


def circuit_rows(name: str, one: CircuitScores) -> Iterator[Row]:
    """Faithfulness with everything else resampled, and that of random circuits."""
    low, high = one.faithfulness_ci
    yield at_most(
        f"{name}: nodes of the circuit over active nodes",
        one.nodes / one.active_nodes,
        0.05,
        f"{one.nodes} of {one.active_nodes:,}; {one.candidates:,} differ between the runs",
    )
    yield at_least(
        f"{name}: faithfulness",
        one.faithfulness,
        0.85,
        f"[{low:.3f}, {high:.3f}], {one.score_prompts} held-out prompts",
    )
    yield at_most(
        f"{name}: faithfulness of random circuits of that size", one.random_circuit_faithfulness, 0.2
    )
    yield beside(f"{name}: completeness (0: the rest does nothing)", one.completeness)
    yield beside(f"{name}: CPR, CMD", one.cpr, f"CMD {one.cmd:.3f}")


def stability_rows(name: str, one: CircuitScores) -> Iterator[Row]:
    """The circuit of resampled prompts against that of all."""
    found = one.stability
    yield at_least(
        f"{name}: Jaccard index over bootstrap resamples",
        found.jaccard,
        0.8,
        (
            f"between two resamples {found.pairwise_jaccard:.3f}, rank correlation "
            f"{found.rank_correlation:.3f}"
        ),
    )


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, PARTS, "evaluate")
