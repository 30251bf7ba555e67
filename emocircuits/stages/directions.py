"""directions: emotion directions at every layer with their controls, and every check of them."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from emocircuits.artifacts.directions import ControlDirections, EmotionDirections
from emocircuits.directions.confounds import TopicConfound
from emocircuits.directions.estimators import ESTIMATORS
from emocircuits.directions.settings import chosen_sites
from emocircuits.io.documents import write_csv
from emocircuits.provenance import Provenance
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.settings import about, known
from emocircuits.studies.direction_checks import (
    cluster_table,
    coordinate_table,
    geometry_table,
    intensity_material,
    intensity_tables,
    learned_directions,
    lens_tables,
    organism_limits,
    preference_material,
    preference_study,
    similarity_table,
    site_table,
)


def check(run: Run) -> None:
    """The estimator exists, depths leave sites, and files are there and right."""
    recipe = run.recipe
    known("directions.estimator", recipe.directions.estimator, ESTIMATORS.names())
    if run.planned_sites:
        chosen_sites(run.planned_sites, recipe.directions, run.planned_depth)
    with about("checks.intensity"):
        if recipe.checks.intensity:
            intensity_material(recipe.checks.intensity)
    with about("preference.material"):
        if recipe.preference.material:
            preference_material(recipe.preference.material)


@stage(
    "emotion directions with controls, intervals and checks",
    needs=("collect",),
    settings=("directions", "checks", "preference", "collect.emotions", "emotion"),
    check=check,
)
def directions(run: Run) -> Output:
    """Writes `directions.h5` and one table per check (see docs/directions.md)."""
    learn = partial(learned_directions, run, run.recipe.directions)
    directions = run.keep("directions", learn, EmotionDirections, ControlDirections, Provenance)
    directions.save(run.path("directions.h5"))
    paths = ["directions.h5"]
    for name, table in _tables(run, directions):
        write_csv(run.path(name), table)
        paths.append(name)
    confound = TopicConfound(directions.settings["topic_cramers_v"], directions.settings["topic_auroc"])
    return Output(tuple(paths), (confound.warning,) if confound.warning else ())


def _tables(run: Run, directions: EmotionDirections) -> Iterator[tuple[str, pd.DataFrame]]:
    recipe = run.recipe
    yield "directions.csv", directions.table().merge(coordinate_table(), on="emotion", how="left")
    yield "direction_sites.csv", site_table(directions, organism_limits(run, directions))
    yield "geometry.csv", geometry_table(directions)
    yield "emotion_clusters.csv", cluster_table(directions, recipe.checks.clusters, recipe.seed)
    yield "layer_similarity.csv", similarity_table(directions, recipe.seed)
    if recipe.checks.lens_prompts:
        tokens, summary = run.keep("logit lens", partial(lens_tables, run, directions))
        yield "logit_lens.csv", tokens
        yield "logit_lens_summary.csv", summary
    if recipe.checks.intensity:
        readings, trends = run.keep("intensity", partial(intensity_tables, run, directions))
        yield "intensity.csv", readings
        yield "intensity_trends.csv", trends
    if recipe.preference.material:
        activities, emotions, _ = preference_study(run, directions, recipe.preference)
        yield "preferences.csv", activities
        yield "preference_emotions.csv", emotions
