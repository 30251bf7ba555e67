"""The checks of a run's directions as tables: sites, geometry, logit lens, numeric intensity, preferences."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from emocircuits.activations.story_files import read_stories
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.directions import ESTIMATORS
from emocircuits.directions.learn import learn_directions
from emocircuits.directions.settings import DirectionSettings
from emocircuits.experiments.elo import EloRatings
from emocircuits.experiments.emotion_limit import EmotionLimits, emotion_limits, story_of
from emocircuits.experiments.geometry import cluster_emotions, coordinate_correlations, layer_similarity
from emocircuits.experiments.intensity import (
    IntensityTemplate,
    intensity_readings,
    intensity_trends,
    read_templates,
)
from emocircuits.experiments.logit_lens import lens_summary, lens_table, logit_lens
from emocircuits.experiments.preference import (
    Preferences,
    effect_against_reading,
    preferences,
    steered_preferences,
)
from emocircuits.experiments.preference_material import Activity, PreferenceMaterial, read_material
from emocircuits.names import residual_site
from emocircuits.organism.world import APPRAISALS, lexicon, scenes
from emocircuits.runs.run import Run
from emocircuits.runs.sections import PreferenceSettings

LENS_TOKENS, INTENSITY_NAMES, PREFERENCE_CONTROLS = 24, 8, 20


def learned_directions(run: Run, how: DirectionSettings) -> EmotionDirections:
    """Directions of the run's emotions from its activations, with its seed."""
    recipe = run.recipe
    return learn_directions(
        run.store,
        how,
        emotions=recipe.collect.emotions or None,
        control_emotion=recipe.emotion,
        seed=recipe.seed,
        workers=recipe.threads,
    )


def chosen_directions(run: Run, estimators: Sequence[str] | None = None) -> list[EmotionDirections]:
    """The run's own directions, or those of each estimator (`all` for every one) learned again.

    Raises:
        UserError: no directions, or an unknown estimator.
    """
    names = ESTIMATORS.names() if list(estimators or ()) == ["all"] else estimators or ()
    for name in names:
        ESTIMATORS.get(name)
    if not names:
        return [run.directions]
    return [learned_directions(run, replace(run.recipe.directions, estimator=name)) for name in names]


def coordinate_table() -> pd.DataFrame:
    """Appraisal coordinates of all emotions of the lexicon, one row per emotion."""
    known = lexicon()
    return pd.DataFrame(known.coordinates, columns=list(APPRAISALS)).assign(emotion=list(known.emotions))


def site_table(directions: EmotionDirections, limits: EmotionLimits | None) -> pd.DataFrame:
    """One row per site: AUROC, accuracy, reliability; on the organism also what the best readers of the text
    reach.
    """
    table = directions.site_table()
    for name in ("reliability", "reliability_full", "cosine_low"):
        if name in directions.quality:
            table[name] = (
                np.nanmean(directions.quality[name], axis=1)
                if np.isfinite(directions.quality[name]).any()
                else np.nan
            )
    if limits is not None:
        table = table.assign(
            bayes_auroc=limits.bayes.mean, linear_auroc=limits.linear.mean, bayes_accuracy=limits.accuracy[0]
        )
    return table


def organism_limits(run: Run, directions: EmotionDirections) -> EmotionLimits | None:
    """The limits of the run's own stories, where the organism's generator wrote them."""
    if run.recipe.collect.material != "organism":
        return None
    prompts = run.store.prompts
    stories = prompts[(prompts["kind"] == "story") & prompts["emotion"].isin(directions.emotions)]
    fit, held = (
        [story_of(text_id) for text_id in stories["id"][stories["split"] == split]]
        for split in ("train", "held_out")
    )
    return emotion_limits(fit, held, directions.emotions)


def geometry_table(directions: EmotionDirections) -> pd.DataFrame:
    """Principal components against the coordinates of the lexicon at every site; empty where fewer than three
    emotions have any.
    """
    coordinates = coordinate_table()
    if sum(emotion in set(coordinates["emotion"]) for emotion in directions.emotions) < 3:
        return pd.DataFrame(
            columns=[
                "coordinate",
                "component",
                "r",
                "abs_r",
                "ci_low",
                "ci_high",
                "explained",
                "n_emotions",
                "site",
            ]
        )
    return pd.concat(
        [
            coordinate_correlations(directions.differences(site), directions.emotions, coordinates).assign(
                site=site
            )
            for site in directions.sites
        ]
    )


def cluster_table(directions: EmotionDirections, k: int, seed: int) -> pd.DataFrame:
    """k-means of the directions at the reading site: `emotion, cluster, agreement` (of other starts, adjusted
    Rand index).
    """
    k = min(k, len(directions.emotions) - 1)
    if k < 2:
        return pd.DataFrame({"emotion": directions.emotions, "cluster": 0, "agreement": 1.0})
    labels, agreement = cluster_emotions(
        directions.vectors[directions.site_index(directions.read_site)], k, seed=seed
    )
    table = pd.DataFrame({"emotion": directions.emotions, "cluster": labels, "agreement": agreement})
    return table.sort_values(["cluster", "emotion"], kind="stable", ignore_index=True)


def similarity_table(directions: EmotionDirections, seed: int) -> pd.DataFrame:
    """Likeness of the sites' geometries (empty for fewer than three emotions)."""
    if len(directions.emotions) < 4:
        return pd.DataFrame(columns=["site", "other", "rho", "ci_low", "ci_high"])
    return layer_similarity(directions.vectors, directions.sites, seed=seed)


def lens_tables(run: Run, directions: EmotionDirections) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Logit lens of every emotion and random control at the reading site: outermost tokens, and a summary per
    direction.
    """
    model, site = run.model, directions.read_site
    neutral = [text.text for text in read_stories(run.path("texts.jsonl")) if text.kind == "neutral"]
    prompts = [model.encode(text)[:LENS_TOKENS] for text in neutral[: run.recipe.checks.lens_prompts]]
    kinds = [kind for kind in ("random",) if kind in directions.controls]
    lens = logit_lens(
        model,
        directions.with_controls(directions.emotions, site=site, kinds=kinds),
        prompts,
    )
    table = lens_table(lens, model)
    return table[table["kind"] == "emotion"].drop(columns="kind"), lens_summary(lens, model)


def intensity_tables(run: Run, directions: EmotionDirections) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Readings over the numbers of every template, and the trend of every emotion."""
    templates, names = intensity_material(run.recipe.checks.intensity)
    readings = intensity_readings(run.model, directions, templates, names)
    return readings, intensity_trends(readings, seed=run.recipe.seed)


def intensity_material(source: str) -> tuple[tuple[IntensityTemplate, ...], tuple[str, ...]]:
    """Templates and names: `organism`, `natural`, or a TOML file."""
    if source != "organism":
        return read_templates() if source == "natural" else read_templates(source)
    people = scenes()["people"]
    half = INTENSITY_NAMES // 2
    return (
        tuple(IntensityTemplate(one["id"], one["text"], tuple(one["values"])) for one in scenes()["numeric"]),
        (*people["names_female"][:half], *people["names_male"][:half]),
    )


def preference_material(source: str) -> PreferenceMaterial:
    """What is asked: `organism` (or "") for the activities that ship, or a TOML file."""
    return read_material() if source in ("", "organism") else read_material(source)


def preference_study(
    run: Run, directions: EmotionDirections, how: PreferenceSettings
) -> tuple[pd.DataFrame, pd.DataFrame, Preferences]:
    """The preference experiment.

    Returns:
        Elo of every activity; per direction `site, direction, kind, r, ci_low, ci_high` (reading against Elo;
        NaN for controls) and `strength, delta_elo, delta_low, delta_high`; and the preferences themselves.
    """
    material = preference_material(how.material)
    seed = run.recipe.seed
    asked = partial(preferences, run.model, directions, material, pairs=how.pairs or None, seed=seed)
    found = run.keep("preferences", asked, Preferences, PreferenceMaterial, Activity, EloRatings)
    site = found.best_site(but=residual_site(run.model.n_layers - 1))
    chosen = spread_evenly(directions.emotions, how.emotions)
    kinds = [kind for kind in ("random",) if kind in directions.controls]
    pushed = partial(
        steered_preferences,
        run.model,
        found,
        directions.with_controls(chosen, site=site, kinds=kinds),
        strength=how.strength,
        pairs=how.steer_pairs or None,
        seed=seed,
    )
    effects = run.keep("steered preferences", pushed)
    effects = effects.rename(columns={"ci_low": "delta_low", "ci_high": "delta_high"})
    correlations = found.correlations()
    here = (
        correlations[correlations["site"] == site]
        .drop(columns=["site", "n"])
        .rename(columns={"emotion": "direction"})
    )
    table = here.merge(effects.drop(columns="kind"), on="direction", how="left").assign(kind="emotion")
    controls = effects[effects["kind"] != "emotion"]
    return found.table(), pd.concat([table, controls]).assign(site=site).reset_index(drop=True), found


def preference_agreement(table: pd.DataFrame) -> dict[str, float]:
    """Correlation over the steered emotions of reading (r with Elo) and effect (ΔElo)."""
    emotions = table[table["kind"] == "emotion"]
    effects = emotions.dropna(subset=["delta_elo"])
    return effect_against_reading(
        emotions.rename(columns={"direction": "emotion"})[["emotion", "r"]],
        effects[["direction", "kind", "delta_elo"]],
    )


def spread_evenly(emotions: tuple[str, ...], n: int) -> list[str]:
    """`n` emotions at even distances over the alphabet: chosen without a look at any result."""
    ordered = sorted(emotions)
    return ordered if n >= len(ordered) else [ordered[place * len(ordered) // n] for place in range(n)]
