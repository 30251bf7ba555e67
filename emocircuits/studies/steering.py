"""Steering a run's model, always on prompts held out from all discovery: dose–response, coherence, what
carries the effect, and whether each match acts.
"""

from functools import partial

import pandas as pd

from emocircuits.experiments.causal_check import COLUMNS as CHECKED
from emocircuits.experiments.causal_check import CausalSettings, causal_check
from emocircuits.experiments.coherence import CoherenceSettings, coherence
from emocircuits.experiments.feature_controls import ControlSettings, held_sets, site_checks
from emocircuits.experiments.mediation import MediationSettings, mediation
from emocircuits.experiments.steering import DoseResponse, DoseSettings, dose_response
from emocircuits.passes.task import Task
from emocircuits.runs.run import Run

KEYS = ["direction", "kind", "strength", "behaviour"]
COHERENCE_CONTROLS, COHERENCE_TOKENS = 3, 64


def steering_tasks(run: Run, count: int, *, pressed: bool = False) -> list[Task]:
    """Tasks whose clean prompts are those of every behaviour without pressure or (`pressed`) in desperate
    circumstances.
    """
    tasks = []
    for name in run.recipe.behaviours:
        bound = run.behaviour(name)
        tasks.append(
            bound.task("score", limit=count) if pressed else bound.neutral_task("score", limit=count)
        )
    return tasks


def steering_curves(run: Run, emotions: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every emotion at every strength, every control at the stronger half of them.

    Returns:
        One row per direction, strength and behaviour (`dose_table`), and the slopes with their p-values.
    """
    tables = [
        run.keep(f"curves {task.behaviour}", partial(_curves, run, emotions, task))
        for task in steering_tasks(run, run.recipe.steer.prompts)
    ]
    doses, slopes = (pd.concat(column, ignore_index=True) for column in zip(*tables, strict=True))
    return doses, slopes


def _curves(run: Run, emotions: list[str], task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    how = run.recipe.steer
    strong = [value for value in how.strengths if abs(value) >= max(map(abs, how.strengths)) / 2]
    measured = dose_response(
        run.model,
        [task],
        run.directions.with_controls(emotions),
        DoseSettings(
            strengths=tuple(how.strengths),
            control_strengths=tuple(strong),
            samples=how.samples,
            seed=run.recipe.seed,
        ),
    )
    return dose_table(measured).reset_index(drop=True), measured.slopes


def coherence_table(run: Run) -> pd.DataFrame:
    """Perplexity and repetition for the recipe's emotion, its opposite and a few random directions."""
    recipe, directions = run.recipe, run.directions
    store, count = run.store, recipe.steer.coherence_texts
    neutral = (store.prompts["kind"] == "neutral").to_numpy().nonzero()[0]
    lengths = store.prompts["n_tokens"].to_numpy()
    neutral = neutral[lengths[neutral] >= min(COHERENCE_TOKENS, lengths[neutral].max())]
    chosen = neutral[:: max(1, len(neutral) // max(1, count))][:count]
    starts, width = store.prompts["offset"].to_numpy(), min(COHERENCE_TOKENS, int(lengths[chosen].min()))
    texts = [store.tokens[starts[p] : starts[p] + width].tolist() for p in chosen]
    emotions = directions.with_controls([recipe.emotion, recipe.opposite], kinds=())
    random = directions.with_controls([], kinds=("random",))[:COHERENCE_CONTROLS]
    return coherence(
        run.model,
        texts,
        [*emotions, *random],
        CoherenceSettings(
            strengths=tuple(recipe.steer.strengths),
            beginning=min(16, width),
            new_tokens=32,
            seed=recipe.seed,
        ),
    )


def mediation_table(run: Run) -> pd.DataFrame:
    """How much of the emotion's effect its matched features carry, beside as many random ones."""
    recipe, directions, matches = run.recipe, run.directions, run.matches
    sites = matches.sites[matches.sites.index(directions.steer_site) :]
    sets = held_sets(
        matches,
        recipe.emotion,
        sites,
        share=recipe.match.carrier_share,
        n_random=recipe.steer.random_sets,
        seed=recipe.seed,
    )
    return mediation(
        run.model,
        run.saes,
        steering_tasks(run, recipe.steer.prompts),
        directions.direction(recipe.emotion),
        sets,
        MediationSettings(strength=recipe.steer.mediation_strength, seed=recipe.seed),
    ).table


def causal_table(run: Run, emotions: list[str]) -> pd.DataFrame:
    """Every kept match of some emotions, pushed and taken out; no rows for an emotion without a match."""
    count = run.recipe.steer.check_prompts
    calm, pressed = steering_tasks(run, count), steering_tasks(run, count, pressed=True)
    recipe, tables = run.recipe, []
    controls = ControlSettings(
        share=recipe.match.carrier_share, n_sets=recipe.steer.random_sets, seed=recipe.seed
    )
    for emotion in emotions:
        checks = site_checks(run.matches, run.directions, emotion, settings=controls)
        if checks:
            settings = CausalSettings(seed=recipe.seed)
            check = partial(causal_check, run.model, run.saes, checks, calm, pressed, settings)
            tables.append(run.keep(f"causal {emotion}", check))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CHECKED))


def dose_table(found: DoseResponse) -> pd.DataFrame:
    """One row per direction, strength and behaviour: rate, log-odds and sampled rates with their
    intervals.
    """
    wide = found.table.drop_duplicates(KEYS)[[*KEYS, "n"]]
    for metric in dict.fromkeys(found.table["metric"]):
        ends = {"ci_low": f"{metric}_ci_low", "ci_high": f"{metric}_ci_high"} if metric != "rate" else {}
        rows = found.table[found.table["metric"] == metric].rename(columns={"value": metric, **ends})
        wide = wide.merge(rows.drop(columns=["metric", "n"]), on=KEYS)
    first = [*KEYS, "rate", "ci_low", "ci_high", "n"]
    return wide[[*first, *(name for name in wide if name not in first)]]
