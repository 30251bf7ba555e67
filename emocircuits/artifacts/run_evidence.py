"""What a run directory holds around a circuit, gathered for its page: its scores, steering, and
`evidence_<behaviour>.json`.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import KINDS, CircuitEvidence, Dose, DoseCurve
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.artifacts.scores import CircuitScores
from emocircuits.errors import UserError

METRIC = "logit_diff"
COLUMNS = ("direction", "kind", "strength", "behaviour", "rate", "ci_low", "ci_high", "n")


def run_circuits(directory: str | Path) -> dict[str, tuple[CircuitGraph, CircuitEvidence]]:
    """The circuits of a run with their scores and evidence, by behaviour; needs no model.

    Raises:
        UserError: no such directory, no circuit in it, or a file that cannot be read.
    """
    directory = Path(directory)
    if directory.is_file():
        graph = CircuitGraph.load(directory)
        return {graph.behaviour: (graph, CircuitEvidence())}
    if not directory.is_dir():
        raise UserError(
            f"{directory} does not exist", expected="a run directory or a circuit_<behaviour>.json"
        )
    run = RunFiles(directory)
    circuits = run.circuits
    if not circuits:
        raise UserError(
            f"{directory} holds no circuit",
            expected="circuit_<behaviour>.json",
            cure=f"emocircuits run --out {directory}",
        )
    scores = run.scores or {}
    return {
        name: (with_scores(graph, scores[name]) if name in scores else graph, run_evidence(run, name))
        for name, graph in circuits.items()
    }


def with_scores(circuit: CircuitGraph, scores: CircuitScores) -> CircuitGraph:
    """The circuit with what was measured about it in its scores, under names for people."""
    measured = {
        "faithfulness": scores.faithfulness,
        "faithfulness, random circuits": scores.random_circuit_faithfulness,
        "completeness": scores.completeness,
        "attribution vs exact, r": scores.attribution_exact.pearson,
        "stability, Jaccard": scores.stability.jaccard,
    }
    own = {name: value for name, value in circuit.scores.items() if not name.startswith("stability")}
    return replace(circuit, scores={**measured, **own})


def run_evidence(run: RunFiles, behaviour: str) -> CircuitEvidence:
    """What the run measured around one behaviour's circuit; what it did not measure is absent."""
    path = run.path(f"evidence_{behaviour}.json")
    known = CircuitEvidence.load(path) if path else CircuitEvidence()
    manifest = run.document("manifest.json") or {}
    recipe, model = manifest.get("recipe", {}), manifest.get("model", {})
    tables = run.table("steering.csv"), run.table("steering_slopes.csv")
    return replace(
        known,
        emotion=known.emotion or str(recipe.get("emotion", "")),
        model=known.model or Path(str(model.get("name", ""))).name,
        dose=known.dose or dose_response(*tables, behaviour),
    )


def dose_response(steering: pd.DataFrame | None, slopes: pd.DataFrame | None, behaviour: str) -> Dose | None:
    """The dose–response of one behaviour, or None where no steering was run.

    Args:
        steering: `steering.csv`.
        slopes: `steering_slopes.csv`; its slopes and p-values of the log-odds go with the curves.
        behaviour: name of the behaviour.
    """
    if steering is None:
        return None
    absent = [name for name in COLUMNS if name not in steering.columns]
    if absent:
        raise UserError(f"steering.csv has no column {', '.join(absent)}", expected=", ".join(COLUMNS))
    rows = steering[(steering.behaviour == behaviour) & steering.kind.isin(KINDS)]
    strengths, curves = _shared_strengths(rows), []
    for (direction, kind), group in rows.groupby(["direction", "kind"], sort=False):
        curve = group.drop_duplicates("strength").set_index("strength").reindex(strengths)
        if curve.rate.isna().any():
            continue  # a direction that was not run at each of them has no curve on these axes
        found = {
            name: tuple(curve[name].tolist()) for name in ("ci_low", "ci_high") if curve[name].notna().all()
        }
        found |= _slope(slopes, behaviour, direction)
        curves.append(
            DoseCurve(str(direction), str(kind), tuple(curve.rate.tolist()), n=int(curve.n.min()), **found)
        )
    return Dose(strengths, tuple(curves)) if curves and len(strengths) > 1 else None


def _shared_strengths(rows: pd.DataFrame) -> tuple[float, ...]:
    """Strengths at which every kind of direction was run: emotions may be at more than their controls, which
    belong beside them.
    """
    kinds = {kind: set(group.strength) for kind, group in rows.groupby("kind")}
    shared = set.intersection(*kinds.values()) if kinds else set()
    return tuple(sorted(shared if len(shared) > 1 else kinds.get("emotion", set(rows.strength))))


def _slope(slopes: pd.DataFrame | None, behaviour: str, direction: str) -> dict[str, float]:
    """Slope and p-value of the log-odds along a direction, as far as they were computed."""
    if slopes is None:
        return {}
    rows = slopes[
        (slopes.behaviour == behaviour) & (slopes.metric == METRIC) & (slopes.direction == direction)
    ]
    return {
        name: float(rows[name].iloc[0])
        for name in ("slope", "p_value")
        if len(rows) and pd.notna(rows[name].iloc[0])
    }
