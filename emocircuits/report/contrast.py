"""Steering at the largest strength against its controls: the numbers that the verdict follows from."""

from dataclasses import dataclass

import pandas as pd

from emocircuits.report.run_data import RunData

CONTROLS = ("random", "content", "shuffled")
MEASURES = {"rate": "rate", "logit_diff": "logit difference"}


@dataclass(frozen=True)
class SteeringContrast:
    """Steering at the largest positive strength against its controls.

    Attributes:
        behaviour: its name.
        measure: `rate` or `logit difference`.
        strength: the largest strength in the table.
        baseline: value without steering.
        rows: emotion -> (value, low, high).
        ranges: kind of control -> (count, lowest, highest value).
    """

    behaviour: str
    measure: str
    strength: float
    baseline: float
    rows: dict[str, tuple[float, float, float]]
    ranges: dict[str, tuple[int, float, float]]

    def within(self, direction: str) -> list[str]:
        """Kinds of control whose range holds the direction's value."""
        value = self.rows[direction][0]
        return [kind for kind, (_, low, high) in self.ranges.items() if low <= value <= high]

    def outside(self, direction: str) -> bool | None:
        """Whether a direction lies beyond every control of every kind; None without controls."""
        if not self.ranges or direction not in self.rows:
            return None
        return not self.within(direction)


def steered_column(rows: pd.DataFrame) -> str | None:
    """The column that a behaviour's steering was measured in: the first of `MEASURES` with a value."""
    return next((name for name in MEASURES if name in rows and rows[name].notna().any()), None)


def contrast(run: RunData, behaviour: str) -> SteeringContrast | None:
    """The contrast of a behaviour, or None where it was not steered."""
    rows = run.steering[run.steering.behaviour == behaviour]
    column = steered_column(rows)
    if column is None:
        return None
    strength = float(rows.strength.max())
    top, zero = rows[rows.strength == strength], rows[rows.strength == 0]
    emotions = {
        row.direction: (float(row[column]), float(row.ci_low), float(row.ci_high))
        for _, row in top[top.kind == "emotion"].iterrows()
    }
    ranges = {
        kind: (len(group), float(group[column].min()), float(group[column].max()))
        for kind in CONTROLS
        if len(group := top[top.kind == kind])
    }
    baseline = float(zero[column].mean()) if len(zero) else float("nan")
    return SteeringContrast(behaviour, MEASURES[column], strength, baseline, emotions, ranges)
