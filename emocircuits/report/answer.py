"""The answer, behaviour by behaviour: the effect and its controls in one table, and a verdict that follows by
rule.
"""

# ruff: noqa: E501 (markup and scripts read better unbroken)

from dataclasses import dataclass
from typing import Any

import pandas as pd

from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, esc, interval, number, table

LEVEL = 0.05
CONTROLS = ("random", "content", "shuffled")
CIRCUIT = {
    "desperation_features": "matched features",
    "circuit_nodes": "nodes",
    "circuit_edges": "links",
    "faithfulness": "faithfulness",
    "random_circuit_faithfulness": "random circuit",
    "attribution_exact_pearson": "attribution r",
    "attribution_exact_slope": "slope",
}


@dataclass(frozen=True)
class Contrast:
    """Steering at the largest positive strength against its controls.

    Attributes:
        behaviour: its name.
        measure: `rate` or `logit difference`.
        strength: the largest strength in the table.
        baseline: value without steering.
        rows: (direction, kind, value, low, high, change) of the two emotions.
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


def contrast(run: RunData, behaviour: str) -> Contrast | None:
    """The contrast of a behaviour, or None where it was not steered."""
    rows = run.steering[run.steering.behaviour == behaviour]
    column = next(
        (name for name in ("rate", "logit_diff") if name in rows and rows[name].notna().any()), None
    )
    if column is None:
        return None
    strength = float(rows.strength.max())
    top, zero = rows[rows.strength == strength], rows[rows.strength == 0]
    found = {
        row.direction: (float(row[column]), float(row.ci_low), float(row.ci_high))
        for _, row in top[top.kind == "emotion"].iterrows()
    }
    ranges = {
        kind: (len(group), float(group[column].min()), float(group[column].max()))
        for kind in CONTROLS
        if len(group := top[top.kind == kind])
    }
    baseline = float(zero[column].mean()) if len(zero) else float("nan")
    return Contrast(
        behaviour, "rate" if column == "rate" else "logit difference", strength, baseline, found, ranges
    )


def verdict(run: RunData, behaviour: str) -> str:
    """Two or three sentences that follow from the numbers alone."""
    found, summary = contrast(run, behaviour), run.summary["behaviours"].get(behaviour, {})
    parts = []
    if found and run.emotion in found.rows:
        value, low, high = found.rows[run.emotion]
        reach = "; ".join(
            f"{count} {kind} directions reach {number(a)} to {number(b)}"
            for kind, (count, a, b) in found.ranges.items()
        )
        parts.append(
            f"Adding <em>{esc(run.emotion)}</em> at strength {number(found.strength, sign=True)} moves the {found.measure} from "
            f"{number(found.baseline)} to <b>{number(value)}</b> {interval(low, high)}. {esc(reach[:1].upper() + reach[1:])}."
        )
        beyond = found.outside(run.emotion)
        if beyond is None:
            parts.append("There are no controls to compare with, so this alone shows nothing specific.")
        elif beyond:
            parts.append("At this strength the emotion lies outside all of its controls.")
        else:
            parts.append(_within(found, run.emotion))
    p = summary.get("p_value")
    if p is not None:
        parts.append(
            f"The slope over all strengths, against those of the random directions: p = {number(p)}."
            if p <= LEVEL
            else f"<b>The slope over all strengths is not significant against those of the random directions (p = {number(p)}).</b>"
        )
    faithful, random = summary.get("faithfulness"), summary.get("random_circuit_faithfulness")
    if faithful is not None:
        parts.append(
            f"The circuit keeps {number(faithful)} of the change in the metric on held-out prompts; random circuits of the same size keep {number(random)}."
        )
        if random is not None and faithful <= random:
            parts.append("<b>It does no better than a random circuit.</b>")
    return " ".join(parts)


def _within(found: Contrast, emotion: str) -> str:
    inside = found.within(emotion)
    if len(inside) == len(found.ranges):
        return "<b>That is within the range of the controls: no effect specific to the emotion was found.</b>"
    beyond = " and ".join(kind for kind in found.ranges if kind not in inside)
    return (
        f"That is beyond the {beyond} directions, <b>but within the range of the {' and '.join(inside)} ones: "
        "an effect specific to the emotion is not shown.</b>"
    )


def badge(run: RunData, behaviour: str) -> str:
    """The verdict in a few words: beyond the controls at the largest strength, and significant in
    the slope.
    """
    found = contrast(run, behaviour)
    beyond = found.outside(run.emotion) if found else None
    p = run.summary["behaviours"].get(behaviour, {}).get("p_value")
    if beyond and p is not None and p > LEVEL:
        return '<span class="badge no">not significant</span>'
    name, text = {
        True: ("yes", "beyond all controls"),
        False: ("no", "not beyond all controls"),
        None: ("open", "no controls"),
    }[beyond]
    return f'<span class="badge {name}">{text}</span>'


def overview(run: RunData) -> str:
    """One row per behaviour: the effect with its controls, then the circuit with its checks."""
    effects = [
        "behaviour",
        "baseline",
        "true",
        f"+ {run.emotion}",
        f"+ {run.opposite}",
        "random (range)",
        "content (range)",
        "shuffled (range)",
        "p",
    ]
    rows, more = [], []
    for behaviour, values in run.summary["behaviours"].items():
        found, name = contrast(run, behaviour), behaviour.replace("_", " ")
        rows.append(
            [
                name,
                values.get("baseline_rate"),
                values.get("true_rate"),
                _estimate(found, run.emotion),
                _estimate(found, run.opposite),
                *(_range(found, kind) for kind in CONTROLS),
                values.get("p_value"),
            ]
        )
        more.append([name, *(values.get(key) for key in CIRCUIT)])
    return _filled(effects, rows) + _filled(["behaviour", *CIRCUIT.values()], more)


def _filled(heads: list[str], rows: list[list[Any]]) -> str:
    keep = [i for i, _ in enumerate(heads) if any(row[i] is not None for row in rows)]
    return table([heads[i] for i in keep], [[row[i] for i in keep] for row in rows])


def steering_table(run: RunData, behaviour: str) -> str:
    """Every strength: emotions with their intervals, controls with their ranges."""
    rows = run.steering[run.steering.behaviour == behaviour]
    column = next(name for name in ("rate", "logit_diff") if name in rows and rows[name].notna().any())
    emotions = list(dict.fromkeys(rows[rows.kind == "emotion"].direction))
    kinds = [kind for kind in CONTROLS if (rows.kind == kind).any()]
    body = []
    for strength, at in rows.groupby("strength"):
        line: list[Any] = [float(strength)]
        line += [_cell(at[(at.kind == "emotion") & (at.direction == name)], column) for name in emotions]
        line += [_spread(at[at.kind == kind][column]) for kind in kinds]
        body.append(line)
    counts = {kind: rows[rows.kind == kind].direction.nunique() for kind in kinds}
    return table(["strength", *emotions, *(f"{counts[kind]} {kind}" for kind in kinds)], body)


def _cell(rows: pd.DataFrame, column: str) -> Cell | None:
    if not len(rows):
        return None
    row = rows.iloc[0]
    return Cell(
        f"{number(row[column])} <small>{interval(row.ci_low, row.ci_high)}</small>", float(row[column])
    )


def _spread(values: pd.Series) -> Cell | None:
    return (
        Cell(f"{number(values.min())} to {number(values.max())}", float(values.max()))
        if len(values)
        else None
    )


def _estimate(found: Contrast | None, direction: str) -> Cell | None:
    if found is None or direction not in found.rows:
        return None
    value, low, high = found.rows[direction]
    return Cell(f"<b>{number(value)}</b> <small>{interval(low, high)}</small>", value)


def _range(found: Contrast | None, kind: str) -> Cell | None:
    if found is None or kind not in found.ranges:
        return None
    count, low, high = found.ranges[kind]
    return Cell(f"{number(low)} to {number(high)} <small>n = {count}</small>", high)
