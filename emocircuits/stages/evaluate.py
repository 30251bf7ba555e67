"""evaluate: every claim about the circuits by real interventions on held-out prompts, next to controls."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.artifacts.scores import CircuitScores, read_scores
from emocircuits.attribution.methods.exact import patched_nodes
from emocircuits.behaviours.bind import neutral_prompts
from emocircuits.circuits.compare import compare_effects, nodes_to_verify
from emocircuits.circuits.nodes import metric_scale
from emocircuits.circuits.quality import QualitySettings, circuit_quality
from emocircuits.experiments.rates import prompt_rates
from emocircuits.io.documents import write_csv, write_json
from emocircuits.limits import LEAST_COVERAGE
from emocircuits.numerics import bootstrap_interval
from emocircuits.ranks import alone, ranks
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.runs.workers import for_each
from emocircuits.sanitise import sanitise_json
from emocircuits.studies.organism_tables import failure_table, reading_table


@stage(
    "faithfulness, exact patching and stability on held-out prompts",
    needs=("plan", "directions", "sae", "attribute", "circuit"),
    settings=("evaluate", "attribute", "behaviours", "collect.material"),
    shared=True,
)
def evaluate(run: Run) -> Output:
    """Writes `scores.json`, and on the organism `failures.csv` and `readings.csv`.

    The ranks of a job share the prompts of circuits and real patches; the first does the rest alone.
    """
    behaviours = run.recipe.behaviours
    shared = [(kind, name) for kind in ("scores", "agreement") for name in behaviours]
    rest = [("rates", name) for name in behaviours]
    if _counts_failures(run):
        rest.append(("failures", "reward_hacking"))
    if ranks().alone:
        done = for_each(run, _kept, shared + rest)
    else:
        done = for_each(run, _kept, shared)
        if not ranks().first:
            return Output(())
        with alone():
            done += for_each(run, _kept, rest)
    measured = dict(zip(shared + rest, done, strict=True))
    failures = measured.pop(("failures", "reward_hacking"), None)
    whole: dict[str, dict[str, Any]] = {name: {} for name in behaviours}
    for (_, name), part in measured.items():
        whole[name] |= part
    return _written(run, read_scores(sanitise_json(whole, "scores")), failures)


def _counts_failures(run: Run) -> bool:
    return run.recipe.collect.material == "organism" and "reward_hacking" in run.recipe.behaviours


def _kept(run: Run, asked: tuple[str, str]) -> Any:
    """One kind of the scores of one behaviour, or the table of failures."""
    kind, name = asked
    if kind == "failures":
        return run.keep(kind, partial(failure_table, run))
    measured = {"agreement": _agreement, "scores": _scores, "rates": _rates}[kind]
    return run.keep(f"{kind} {name}", partial(measured, run, name))


def _written(run: Run, scores: dict[str, CircuitScores], failures: pd.DataFrame | None) -> Output:
    write_json(run.path("scores.json"), {name: score.to_dict() for name, score in scores.items()})
    paths, warnings = ["scores.json"], []
    for name, score in scores.items():
        if score.faithfulness <= max(score.random_values):
            warnings.append(
                f"{name}: the circuit is no more faithful than the best random circuit of its size"
            )
        known = [side.coverage for side in score.rates.sides.values() if side.coverage is not None]
        if known and min(known) < LEAST_COVERAGE:
            warnings.append(
                f"{name}: its words and the honest ones have as little as {min(known):.2g} of the model's "
                "probability where it decides; rates are shares of that, not of what it would write"
            )
        if score.attribution_exact.pearson < 0.9:
            warnings.append(
                f"{name}: attribution and exact patching correlate only {score.attribution_exact.pearson:.2f}"
            )
    if failures is not None:
        write_csv(run.path("failures.csv"), failures)
        write_csv(run.path("readings.csv"), reading_table(run))
        paths += ["failures.csv", "readings.csv"]
    return Output(tuple(paths), tuple(warnings))


def _scores(run: Run, name: str) -> dict[str, Any]:
    recipe, (find, held_out) = run.recipe, run.tasks(name)
    effects, circuit, inside = run.attribution(name), run.circuit(name), run.circuit_sites
    nodes = tuple(node.id for node in circuit.nodes if node.kind in ("feature", "error"))
    settings = QualitySettings(
        sizes=recipe.evaluate.sizes,
        random_circuits=recipe.evaluate.random_circuits,
        steps=recipe.attribute.steps,
        seed=recipe.seed,
    )
    found = circuit_quality(nodes, effects.at_sites(inside), held_out, find, settings, ranking=nodes)
    return {
        "faithfulness": found.faithfulness,
        "faithfulness_ci": [found.ci_low, found.ci_high],
        "random_circuit_faithfulness": found.random["mean"],
        "random_values": found.random["values"],
        "completeness": found.completeness,
        "cpr": found.areas["cpr"],
        "cmd": found.areas["cmd"],
        "cpr_log": found.areas["log_cpr"],
        "cmd_log": found.areas["log_cmd"],
        "faithfulness_curve": [_curve_point(point) for point in found.curve],
        "nodes": found.size,
        "candidates": found.candidates,
        "active_nodes": int(circuit.scores["active_nodes"]),
        "error_nodes": found.errors,
        "ablation": found.ablation,
        "score_prompts": found.prompts,
        "m_full": found.m_full,
        "m_empty": found.m_empty,
        "ablations": found.ablations,
        "minimality": found.minimality,
        "knockouts": found.knockouts,
        "controls": found.controls,
        "sites": list(inside),
        "stability": {
            name.removeprefix("stability_"): value
            for name, value in circuit.scores.items()
            if name.startswith("stability_")
        },
    }


def _agreement(run: Run, name: str) -> dict[str, Any]:
    """Attributed effects next to real patches in both directions: the clean value put into the corrupt run,
    and what the clean run loses by the corrupt value. A path of gradients from one run to the other stands
    between the two, so it is compared with their mean.
    """
    result, (find, _) = run.attribution(name), run.tasks(name)
    chosen = nodes_to_verify(result, run.recipe.evaluate.exact_nodes, seed=run.recipe.seed)
    into, out_of = (
        patched_nodes(task, chosen).effects.mean(0, dtype=np.float64) for task in (find, find.swapped())
    )
    mean = dict(zip(result.nodes, result.effects.mean(0, dtype=np.float64), strict=True))
    predicted, scale = np.array([mean[node] for node in chosen]), metric_scale(result)
    real = {"denoise": into, "noise": -out_of, "mean": (into - out_of) / 2}
    agreed = {
        name: compare_effects(predicted, values, scale=scale).to_dict() for name, values in real.items()
    }
    points = [
        {
            "node": node,
            "predicted": float(predicted[place]),
            "exact": float(real["mean"][place]),
            "denoise": float(real["denoise"][place]),
            "noise": float(real["noise"][place]),
        }
        for place, node in enumerate(chosen)
    ]
    both = agreed["mean"]
    exact = {
        "pearson": both["pearson"],
        "slope": both["slope"],
        "sign_agreement": both["sign_agreement"],
        "n": both["nodes"],
        "strong_nodes": both["strong_nodes"],
        "denoise": agreed["denoise"],
        "noise": agreed["noise"],
        "points": points,
    }
    return {"attribution_exact": exact}


def _curve_point(point: dict[str, Any]) -> dict[str, Any]:
    return {
        "size": point["size"],
        "errors": point["errors"],
        "fraction": point["share"],
        "faithfulness": point["faithfulness"],
        "ci_low": point["ci_low"],
        "ci_high": point["ci_high"],
        "random_mean": point["random"],
        "random_low": point["random_low"],
        "random_high": point["random_high"],
    }


def _rates(run: Run, name: str) -> dict[str, Any]:
    """Rate of the behaviour on clean, corrupt and neutral score prompts, next to the generator's truth where
    it is known.
    """
    bound, model = run.behaviour(name), run.model
    pairs = bound.pairs("score", run.recipe.evaluate.pairs)
    sides = {
        "clean": [(p.clean, p.true_clean) for p in pairs],
        "corrupt": [(p.corrupt, p.true_corrupt) for p in pairs],
        "baseline": neutral_prompts(pairs),
    }
    metric = bound.metric_on(pairs)
    rates: dict[str, Any] = {"n": len(pairs)}
    for side, prompts in sides.items():
        values, coverage = prompt_rates(model, [model.encode(text) for text, _ in prompts], metric)
        low, high = bootstrap_interval(values, seed=run.recipe.seed)
        rates[side] = {"rate": float(values.mean()), "ci_low": float(low), "ci_high": float(high)}
        rates[side]["coverage"] = float(coverage.mean())
        if metric.swapped:
            second = np.isin(np.arange(len(values)), list(metric.swapped))
            rates[side]["first_option"] = float(np.where(second, 1 - values, values).mean())
        truths = [true for _, true in prompts if true is not None]
        if len(truths) == len(prompts):
            rates[side]["true_rate"] = float(np.mean(truths))
    return {"rates": rates}
