"""The answer, behaviour by behaviour: a verdict that follows by rule, and the effect next to its controls."""

from typing import Any

from emocircuits.limits import SIGNIFICANCE
from emocircuits.report.contrast import CONTROLS, SteeringContrast, contrast
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, estimate, table
from emocircuits.report.text import esc, interval, number, words

TITLE = "The answer"
CIRCUIT = {
    "desperation_features": "matched features",
    "circuit_nodes": "nodes",
    "circuit_edges": "links",
    "faithfulness": "faithfulness",
    "random_circuit_faithfulness": "random circuit",
    "attribution_exact_pearson": "attribution r",
    "attribution_exact_slope": "slope",
}


def build(run: RunData, pictures: Pictures) -> str:
    """The verdicts and the table with controls."""
    cards = "".join(
        f'<article class="verdict"><h3>{words(name)} {badge(run, name)}</h3>'
        f"<p>{verdict(run, name)}</p></article>"
        for name in run.summary["behaviours"]
    )
    return (
        f'<div class="verdicts">{cards}</div>{overview(run)}'
        "<p>The effect column is the value under the largest steering strength, with its 95 % interval over "
        "prompts; controls are directions of the same norm at the same strength: random ones, content "
        "directions (topics, learned in the same way) and directions learned from shuffled labels. A null "
        "result stands here as plainly as a positive one.</p>"
    )


def verdict(run: RunData, behaviour: str) -> str:
    """Two or three sentences that follow from the numbers alone."""
    steered, summary = contrast(run, behaviour), run.summary["behaviours"].get(behaviour, {})
    sentences = _effect(steered, run.emotion) if steered and run.emotion in steered.rows else []
    p = summary.get("p_value")
    if p is not None:
        sentences.append(
            f"The slope over all strengths, against those of the random directions: p = {number(p)}."
            if p <= SIGNIFICANCE
            else "<b>The slope over all strengths is not significant against those of the random directions "
            f"(p = {number(p)}).</b>"
        )
    faithful, random = summary.get("faithfulness"), summary.get("random_circuit_faithfulness")
    if faithful is not None:
        sentences.append(
            f"The circuit keeps {number(faithful)} of the change in the metric on held-out prompts; random "
            f"circuits of the same size keep {number(random)}."
        )
        if random is not None and faithful <= random:
            sentences.append("<b>It does no better than a random circuit.</b>")
    return " ".join(sentences)


def _effect(steered: SteeringContrast, emotion: str) -> list[str]:
    """What adding the emotion does, and whether its controls do as much."""
    value, low, high = steered.rows[emotion]
    reach = "; ".join(
        f"{count} {kind} directions reach {number(least)} to {number(most)}"
        for kind, (count, least, most) in steered.ranges.items()
    )
    moved = (
        f"Adding <em>{esc(emotion)}</em> at strength {number(steered.strength, sign=True)} moves the "
        f"{steered.measure} from {number(steered.baseline)} to <b>{number(value)}</b> {interval(low, high)}. "
        f"{esc(reach[:1].upper() + reach[1:])}."
    )
    beyond = steered.outside(emotion)
    if beyond is None:
        return [moved, "There are no controls to compare with, so this alone shows nothing specific."]
    if beyond:
        return [moved, "At this strength the emotion lies outside all of its controls."]
    return [moved, _within(steered, emotion)]


def _within(steered: SteeringContrast, emotion: str) -> str:
    inside = steered.within(emotion)
    if len(inside) == len(steered.ranges):
        return "<b>That is within the range of the controls: no effect specific to the emotion was found.</b>"
    beyond = " and ".join(kind for kind in steered.ranges if kind not in inside)
    return (
        f"That is beyond the {beyond} directions, <b>but within the range of the {' and '.join(inside)} "
        "ones: an effect specific to the emotion is not shown.</b>"
    )


def badge(run: RunData, behaviour: str) -> str:
    """The verdict in a few words: beyond the controls at the largest strength, and significant in
    the slope.
    """
    steered = contrast(run, behaviour)
    beyond = steered.outside(run.emotion) if steered else None
    p = run.summary["behaviours"].get(behaviour, {}).get("p_value")
    if beyond and p is not None and p > SIGNIFICANCE:
        return '<span class="badge no">not significant</span>'
    name, text = {
        True: ("yes", "beyond all controls"),
        False: ("no", "not beyond all controls"),
        None: ("open", "no controls"),
    }[beyond]
    return f'<span class="badge {name}">{text}</span>'


def overview(run: RunData) -> str:
    """One row per behaviour: the effect with its controls, then the circuit with its checks."""
    ranges = [f"{kind} (range)" for kind in CONTROLS]
    heads = ["behaviour", "baseline", "true", f"+ {run.emotion}", f"+ {run.opposite}", *ranges, "p"]
    effects, circuits = [], []
    for behaviour, values in run.summary["behaviours"].items():
        steered, name = contrast(run, behaviour), behaviour.replace("_", " ")
        effects.append(
            [
                name,
                values.get("baseline_rate"),
                values.get("true_rate"),
                _estimate(steered, run.emotion),
                _estimate(steered, run.opposite),
                *(_range(steered, kind) for kind in CONTROLS),
                values.get("p_value"),
            ]
        )
        circuits.append([name, *(values.get(key) for key in CIRCUIT)])
    return _filled(heads, effects) + _filled(["behaviour", *CIRCUIT.values()], circuits)


def _filled(heads: list[str], rows: list[list[Any]]) -> str:
    """The table without its empty columns."""
    keep = [i for i, _ in enumerate(heads) if any(row[i] is not None for row in rows)]
    return table([heads[i] for i in keep], [[row[i] for i in keep] for row in rows])


def _estimate(steered: SteeringContrast | None, direction: str) -> Cell | None:
    if steered is None or direction not in steered.rows:
        return None
    value, low, high = steered.rows[direction]
    return estimate(value, low, high, strong=True)


def _range(steered: SteeringContrast | None, kind: str) -> Cell | None:
    if steered is None or kind not in steered.ranges:
        return None
    count, low, high = steered.ranges[kind]
    return Cell(f"{number(low)} to {number(high)} <small>n = {count}</small>", high)
