"""How far to trust a circuit: the scores measured on held-out prompts, carried by the graph that people look
at.
"""

from dataclasses import replace
from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph


def with_scores(circuit: CircuitGraph, score: dict[str, Any]) -> CircuitGraph:
    """The circuit with the behaviour's entry of `scores.json` in its scores, under names that people read in
    the viewer.
    """
    measured = {
        "faithfulness": score["faithfulness"],
        "faithfulness, random circuits": score["random_circuit_faithfulness"],
        "completeness": score["completeness"],
        "attribution vs exact, r": score["attribution_exact"]["pearson"],
        "stability, Jaccard": score["stability"]["jaccard"],
    }
    own = {name: value for name, value in circuit.scores.items() if not name.startswith("stability")}
    return replace(circuit, scores={**measured, **own})
