"""`summary.json`: the numbers of a run, read from the files its stages wrote."""

import math
from typing import Any

import pandas as pd

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.scores import CircuitScores
from emocircuits.errors import Failure
from emocircuits.experiments.geometry import best_correlation
from emocircuits.runs.run import Run


def summarise_run(run: Run) -> dict[str, Any]:
    """The summary (contract): finite numbers only.

    Raises:
        Failure: a number is not finite; the message names it.
    """
    recipe = run.recipe
    model, scores = run.document("model.json"), run.scores
    directions, geometry = run.directions, run.table("geometry.csv")
    slopes, matches, saes = (run.table(name) for name in ("steering_slopes.csv", "matches.csv", "saes.csv"))
    records = run.manifest.stages
    here = geometry[geometry["site"] == directions.read_site]
    summary: dict[str, Any] = {
        "model": recipe.model,
        "n_params": model["n_params"],
        "emotions": len(directions.emotions),
        "seed": recipe.seed,
        "behaviours": {
            name: _behaviour(
                scores[name],
                run.circuit(name),
                slopes[slopes["behaviour"] == name],
                matches,
                recipe.emotion,
            )
            for name in recipe.behaviours
        },
        "directions": {
            "valence_r": best_correlation(here, "valence"),
            "arousal_r": best_correlation(here, "arousal"),
            "held_out_auroc": float(
                directions.held_out_auroc[directions.site_index(directions.read_site)].mean()
            ),
            "read_site": directions.read_site,
            "steer_site": directions.steer_site,
        },
        "saes": {
            row.site: {
                "l0": row.l0,
                "fvu": row.fvu,
                "ce_loss_recovered": row.ce_loss_recovered,
                "dead_fraction": row.dead_fraction,
            }
            for row in saes.itertuples()
        },
        "matches": {recipe.emotion: _best_match(matches, recipe.emotion)},
        "seconds": {name: record.seconds for name, record in records.items()},
        "peak_rss_mb": max((record.peak_rss_mb for record in records.values()), default=0.0),
        "warnings": [text for record in records.values() for text in record.warnings],
    }
    _check_finite(summary, "summary")
    return summary


def _behaviour(
    scores: CircuitScores, circuit: CircuitGraph, slopes: pd.DataFrame, matches: pd.DataFrame, emotion: str
) -> dict[str, Any]:
    slopes = slopes[slopes["metric"] == "logit_diff"]
    emotional = slopes[slopes["direction"] == emotion].iloc[0]
    random = slopes[slopes["kind"] == "random"]["slope"]
    kept = matches[(matches["emotion"] == emotion) & matches["kept"].astype(bool)]
    matched = {(row.site, int(row.feature)) for row in kept.itertuples()}
    nodes = [node for node in circuit.nodes if node.kind in ("feature", "error")]
    baseline = scores.rates.baseline
    return {
        "baseline_rate": baseline.rate,
        **({} if baseline.true_rate is None else {"true_rate": baseline.true_rate}),
        **({} if baseline.coverage is None else {"coverage": baseline.coverage}),
        "logit_diff": circuit.scores["metric_clean"] - circuit.scores["metric_corrupt"],
        f"{emotion}_steering_slope": float(emotional["slope"]),
        "random_steering_slope": float(random.mean()),
        "random_steering_slope_max": float(random.abs().max()),
        "p_value": float(emotional["p_value"]),
        "desperation_features": sum(
            (node.site, node.feature) in matched for node in nodes if node.kind == "feature"
        ),
        "circuit_nodes": len(nodes),
        "circuit_edges": len(circuit.edges),
        "faithfulness": scores.faithfulness,
        "random_circuit_faithfulness": scores.random_circuit_faithfulness,
        "attribution_exact_pearson": scores.attribution_exact.pearson,
        "attribution_exact_slope": scores.attribution_exact.slope,
    }


def _best_match(matches: pd.DataFrame, emotion: str) -> dict[str, Any]:
    """The kept match with the largest Δf attribution; where none is kept, the one with the smallest q-value
    (kept = false).
    """
    own = matches[matches["emotion"] == emotion]
    if own.empty:
        raise Failure(f"matches.csv has no row for '{emotion}'", cure="run the match stage again")
    best = own.sort_values(["kept", "q_value", "delta"], ascending=[False, True, False]).iloc[0]
    return {
        "site": str(best["site"]),
        "feature": int(best["feature"]),
        "cosine": float(best["cosine"]),
        "auroc": float(best["auroc"]),
        "q_value": float(best["q_value"]),
        "kept": bool(best["kept"]),
    }


def _check_finite(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(item, f"{where}.{key}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise Failure(
            f"{where} is {value}", expected="a finite number", cure="look at the stage that computes it"
        )
