"""How far to trust it: faithfulness, attribution against intervention, stability, controls."""

from typing import Any

from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import estimate, table
from emocircuits.report.text import esc, flat

TITLE = "How far to trust it"
CIRCUIT = {
    "random_circuit_faithfulness": "random circuit",
    "completeness": "completeness",
    "cpr": "CPR",
    "cmd": "CMD",
    "cpr_log": "CPR (log size)",
    "cmd_log": "CMD (log size)",
}
EXACT = {
    "pearson": "attribution r",
    "slope": "slope",
    "sign_agreement": "same sign",
    "n": "nodes checked",
}
STABILITY = {"jaccard": "stability (Jaccard)", "rank_correlation": "rank correlation"}


def build(run: RunData, pictures: Pictures) -> str:
    """The two pictures, a table under each, and the controls."""
    scores = {name.replace("_", " "): score for name, score in run.scores.items() if isinstance(score, dict)}
    controls = [row for name, score in scores.items() for row in _controls(name, score.get("controls", {}))]
    return (
        "<p>Faithfulness: ablate everything outside the circuit on held-out prompts and see how much of the "
        "change in the metric is left (1 = all of it). Completeness: ablate the circuit itself and see what "
        f"is left (0 = nothing). {_covered(run)}Attribution is an estimate from gradients; the scatter says "
        "how good it is here.</p>"
        + pictures["faithfulness"]
        + table(
            ["behaviour", "faithfulness", *CIRCUIT.values()],
            [[name, _faithful(score), *map(score.get, CIRCUIT)] for name, score in scores.items()],
        )
        + pictures["attribution_exact"]
        + table(
            ["behaviour", *EXACT.values(), *STABILITY.values()],
            [
                [
                    name,
                    *map(score.get("attribution_exact", {}).get, EXACT),
                    *map(score.get("stability", {}).get, STABILITY),
                ]
                for name, score in scores.items()
            ],
        )
        + _control_table(controls)
    )


def _faithful(score: dict[str, Any]) -> Any:
    return estimate(score.get("faithfulness"), *score.get("faithfulness_ci", (None, None)))


def _covered(run: RunData) -> str:
    """At which sites circuits are scored."""
    sites = list(dict.fromkeys(site for score in run.scores.values() for site in score.get("sites", ())))
    if not sites:
        return ""
    return (
        f"Both at the sites that circuits cover: {esc(', '.join(sites))}; what lies before the first of them "
        "is left whole. "
    )


def _control_table(rows: list[list[Any]]) -> str:
    if not rows:
        return ""
    heads = ["behaviour", "control", "value", "nodes", "of them errors"]
    return "<h3>Controls</h3>" + table(heads, rows, tall=True)


def _controls(behaviour: str, controls: dict[str, Any]) -> list[list[Any]]:
    """A row per control: circuits chosen in another way with their faithfulness and size, and plain
    numbers.
    """
    rows: list[list[Any]] = []
    for key, value in controls.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and "faithfulness" in value:
            score = estimate(value["faithfulness"], value.get("ci_low"), value.get("ci_high"))
            rows.append([behaviour, f"{name}: faithfulness", score, value.get("size"), value.get("errors")])
        elif isinstance(value, dict):
            rows += [
                [behaviour, f"{name}: {part}".replace("_", " "), item, None, None]
                for part, item in flat(value)
                if isinstance(item, (int, float))
            ]
        elif isinstance(value, (int, float)):
            rows.append([behaviour, name, value, None, None])
    return rows
