"""How far to trust it: faithfulness, attribution against intervention, stability, controls."""

from emocircuits.artifacts.scores import CircuitScores
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, estimate, table
from emocircuits.report.text import esc

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
    scores = {name.replace("_", " "): scores for name, scores in run.scores.items()}
    return (
        "<p>Faithfulness: ablate everything outside the circuit on held-out prompts and see how much of the "
        "change in the metric is left (1 = all of it). Completeness: ablate the circuit itself and see what "
        f"is left (0 = nothing). {_covered(run)}Attribution is an estimate from gradients; the scatter says "
        "how good it is here.</p>"
        + pictures["faithfulness"]
        + table(
            ["behaviour", "faithfulness", *CIRCUIT.values()],
            [
                [name, _faithful(circuit), *(getattr(circuit, key) for key in CIRCUIT)]
                for name, circuit in scores.items()
            ],
        )
        + pictures["attribution_exact"]
        + table(
            ["behaviour", *EXACT.values(), *STABILITY.values()],
            [
                [
                    name,
                    *(getattr(circuit.attribution_exact, key) for key in EXACT),
                    *(getattr(circuit.stability, key) for key in STABILITY),
                ]
                for name, circuit in scores.items()
            ],
        )
        + _controls(scores)
    )


def _faithful(scores: CircuitScores) -> Cell:
    return estimate(scores.faithfulness, *scores.faithfulness_ci)


def _covered(run: RunData) -> str:
    """At which sites circuits are scored."""
    sites = list(dict.fromkeys(site for scores in run.scores.values() for site in scores.sites))
    if not sites:
        return ""
    return (
        f"Both at the sites that circuits cover: {esc(', '.join(sites))}; what lies before the first of them "
        "is left whole. "
    )


def _controls(scores: dict[str, CircuitScores]) -> str:
    """A row per circuit that was chosen in another way."""
    rows = [
        [
            behaviour,
            f"{name.replace('_', ' ')}: faithfulness",
            estimate(control.faithfulness, control.ci_low, control.ci_high),
            control.size,
            control.errors,
        ]
        for behaviour, circuit in scores.items()
        for name, control in circuit.controls.items()
    ]
    if not rows:
        return ""
    heads = ["behaviour", "control", "value", "nodes", "of them errors"]
    return "<h3>Controls</h3>" + table(heads, rows, tall=True)
